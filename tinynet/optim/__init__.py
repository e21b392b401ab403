"""Optimisers and their learning-rate schedules."""

from tinynet.optim.schedules import MultiStepLR, ReduceLROnPlateau, StepLR
from tinynet.optim.sgd import SGD

__all__ = ["SGD", "MultiStepLR", "ReduceLROnPlateau", "StepLR"]
