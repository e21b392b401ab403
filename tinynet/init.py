"""Initial values. Each is a pure function of (seed, the parameter's name, index): see tinynet.random."""

import math

import numpy as np

from tinynet import random
from tinynet.layers.base import Parameter


def fan_in(parameter: Parameter) -> int:
    """The number of inputs that one output sums: in_features, or C/groups * KH * KW."""
    return math.prod(parameter.shape[1:])


def normal(parameter: Parameter, std: float, seed: int, name: str) -> None:
    """Normal values of mean 0 and standard deviation `std` (Krizhevsky et al. 2012, section 5, has 0.01)."""
    parameter.data[...] = random.normal(parameter.shape, seed, f"init {name}", dtype=parameter.data.dtype)
    parameter.data *= parameter.data.dtype.type(std)


def he_normal(parameter: Parameter, seed: int, name: str) -> None:
    """Normal values of std sqrt(2 / fan_in): ReLU halves the variance, this doubles it again (He et al. 2015, eq.
    10)."""
    normal(parameter, math.sqrt(2 / fan_in(parameter)), seed, name)


def uniform(parameter: Parameter, bound: float, seed: int, name: str) -> None:
    """Uniform values on [-bound, bound); bound = 1 / sqrt(fan_in) is PyTorch's default for conv and linear layers."""
    parameter.data[...] = random.uniform(parameter.shape, seed, f"init {name}", low=-bound, high=bound)


def constant(parameter: Parameter, value: float) -> None:
    """One value everywhere."""
    parameter.data[...] = np.asarray(value, parameter.data.dtype)
