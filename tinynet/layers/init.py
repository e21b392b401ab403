"""Initial values. Each is a pure function of (seed, the parameter's name, index): see tinynet.random."""

import math
from functools import partial
from typing import Any

import numpy as np

from tinynet import random
from tinynet.layers.layer import Layer
from tinynet.layers.parameter import Parameter
from tinynet.random import whole_number


def fan_in(parameter: Parameter) -> int:
    """The number of inputs that one output sums: in_features, or C/groups * KH * KW."""
    return math.prod(parameter.shape[1:])


def normal(parameter: Parameter, std: float, seed: int, name: str) -> None:
    """Normal values of mean 0 and standard deviation `std` (Krizhevsky et al. 2012, section 5, has 0.01)."""
    values = random.normal(parameter.shape, seed, f"init {name}", dtype=parameter.dtype)
    values *= values.dtype.type(std)
    parameter.data = values


def he_normal(parameter: Parameter, seed: int, name: str) -> None:
    """Normal values of std sqrt(2 / fan_in): ReLU halves the variance, this doubles it again (He et al. 2015, eq.
    10)."""
    normal(parameter, math.sqrt(2 / fan_in(parameter)), seed, name)


def he_normal_parameter(layer: Layer, shape: tuple[int, ...], seed: int) -> Parameter:
    """A layer's `weight`, which gets He's normal values by the layer's name: two layers of a net start differently."""
    whole_number("seed", seed, 64)
    return Parameter(None, shape=shape, draw=partial(_draw_weight, layer, seed))


def _draw_weight(layer: Any, seed: int) -> np.ndarray:
    he_normal(layer.weight, seed, f"{layer.name or type(layer).__name__}.weight")
    return layer.weight.data


def uniform(parameter: Parameter, bound: float, seed: int, name: str) -> None:
    """Uniform values on [-bound, bound); bound = 1 / sqrt(fan_in) is PyTorch's default for conv and linear layers."""
    values = random.uniform(parameter.shape, seed, f"init {name}", low=-bound, high=bound)
    parameter.data = values.astype(parameter.dtype)


def constant(parameter: Parameter, value: float) -> None:
    """One value everywhere."""
    parameter.data = np.full(parameter.shape, value, parameter.dtype)
