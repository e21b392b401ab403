"""Pictures and answers to draw, functions of a name alone."""

import numpy as np

from tinynet import random

CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu")


def some_pictures(N, C=3, H=5, W=7, stream="pictures"):
    return (random.bits((N, C, H, W), 0, stream) % 256).astype(np.uint8)


def some_probabilities(N, K, stream="probabilities"):
    raw = random.uniform((N, K), 0, stream) + 0.01
    return raw / raw.sum(axis=1, keepdims=True)


def as_drawn(picture):
    """(H, W, 3)."""
    C, H, W = picture.shape
    return np.broadcast_to(picture.transpose(1, 2, 0), (H, W, 3))
