"""Checks of what users give: whole numbers, pairs, sizes of windows, arrays. They raise what says what was expected."""

import math
from typing import Any

import numpy as np

Pair = tuple[int, int]
Window = tuple[Pair, Pair, Pair, Pair]  # kernel_size, stride, padding, dilation
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, Python's or NumPy's; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def checked_pair(layer: str, name: str, value: Any, least: int) -> Pair:
    """3 -> (3, 3), (h, w) -> (h, w). ValueError for anything but one or two whole numbers of at least `least`."""
    values = (value, value) if is_whole(value) else value
    ok = isinstance(values, (tuple, list)) and len(values) == 2
    if not ok or any(not is_whole(v) or v < least for v in values):
        raise ValueError(
            f"{layer}: expected {name} to be a whole number of at least {least} or two, (h, w); got {value!r}"
        )
    return int(values[0]), int(values[1])


def checked_count(layer: str, name: str, value: Any) -> int:
    """`value` as an int. ValueError unless it is a whole number of at least 1."""
    if not is_whole(value) or value < 1:
        raise ValueError(f"{layer}: expected {name} to be a whole number of at least 1, got {value!r}")
    return int(value)


def checked_counts(layer: str, **counts: Any) -> list[int]:
    """The values as ints, in order; see `checked_count`."""
    return [checked_count(layer, name, value) for name, value in counts.items()]


def checked_window(layer: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> Window:
    """The four as pairs (h, w), by `checked_pair`."""
    return (
        checked_pair(layer, "kernel_size", kernel_size, 1),
        checked_pair(layer, "stride", stride, 1),
        checked_pair(layer, "padding", padding, 0),
        checked_pair(layer, "dilation", dilation, 1),
    )


def window_output(
    layer: str,
    size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
) -> Pair:
    """(OH, OW): how many windows fit, (size + 2*padding - dilation*(kernel_size - 1) - 1) // stride + 1 a side.

    `ceil_mode` rounds up instead, so that a last window may hang over the edge, if it starts inside the picture or its
    left padding. Raises ValueError if not even one fits.
    """
    output = []
    for axis, side in enumerate(("height", "width")):
        extent = dilation[axis] * (kernel_size[axis] - 1) + 1
        room = size[axis] + 2 * padding[axis] - extent
        if room < 0:
            raise ValueError(
                f"{layer}: expected a {side} of at least {extent - 2 * padding[axis]} for kernel_size {kernel_size}, "
                f"padding {padding}, dilation {dilation}; got height, width = {size}"
            )
        count = room // stride[axis] + 1
        if ceil_mode and room % stride[axis] and count * stride[axis] < size[axis] + padding[axis]:
            count += 1
        output.append(count)
    return output[0], output[1]


def checked_pool_window(layer: str, kernel_size: Any, stride: Any, padding: Any) -> Window:
    """The window of a pooling layer; stride=None takes kernel_size. ValueError if a window could lie in padding."""
    kernel_size = checked_pair(layer, "kernel_size", kernel_size, 1)
    stride = kernel_size if stride is None else stride
    window = checked_window(layer, kernel_size, stride, padding, 1)
    if any(2 * p > k for p, k in zip(window[2], kernel_size, strict=True)):
        raise ValueError(f"{layer}: expected padding of at most half of kernel_size {kernel_size}, got {window[2]}")
    return window


def checked_channels(layer: str, in_channels: Any, out_channels: Any, groups: Any) -> list[int]:
    """The three as ints. ValueError unless groups divides both numbers of channels."""
    counts = checked_counts(layer, in_channels=in_channels, out_channels=out_channels, groups=groups)
    if in_channels % groups or out_channels % groups:
        raise ValueError(
            f"{layer}: expected groups to divide in_channels and out_channels; got groups={groups}, "
            f"in_channels={in_channels}, out_channels={out_channels}"
        )
    return counts


def checked_normalisation(layer: str, size: Any, alpha: float, beta: float, k: float, groups: Any) -> tuple:
    """The five. ValueError if size is even, a scale could be 0 or less, or groups is no whole number of at least 1."""
    if not is_whole(size) or size < 1 or size % 2 == 0:
        raise ValueError(f"{layer}: expected an odd size, a window with a centre; got {size}")
    groups = checked_count(layer, "groups", groups)
    if not (0 < k < math.inf and 0 <= alpha < math.inf and math.isfinite(beta)):
        raise ValueError(
            f"{layer}: expected k > 0 and alpha >= 0, so that scale > 0, and a finite beta; got k={k}, alpha={alpha}, "
            f"beta={beta}"
        )
    return int(size), float(alpha), float(beta), float(k), groups


def checked_share(layer: str, p: float) -> float:
    """p. ValueError unless 0 <= p < 1."""
    if not 0 <= p < 1:
        raise ValueError(f"{layer}: expected 0 <= p < 1, the share that is dropped; got {p}")
    return float(p)


def checked_array(function: str, name: str, array: Any, ndim: int) -> None:
    """Raises ValueError unless it is an array of so many axes, TypeError for a dtype that is neither of whole numbers
    nor float32 nor float64."""
    if getattr(array, "ndim", None) != ndim:
        raise ValueError(f"{function}: expected {name} as an array of {ndim} axes, got {np.shape(array)}")
    if array.dtype.kind not in "iu" and array.dtype not in FLOATS:
        raise TypeError(f"{function}: expected {name} of whole numbers, float32 or float64, got {array.dtype}")


def checked_labels(layer: str, labels: Any, N: int, K: int) -> Any:
    """The labels as an array. TypeError or ValueError unless they are N whole numbers in [0, K); on a GPU, where an
    answer would make the host wait, they are not looked at."""
    if not hasattr(labels, "dtype"):
        labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"{layer}: expected labels of an integer dtype, got {labels.dtype}; of one-hot rows take .argmax(1)"
        )
    if labels.shape != (N,):
        raise ValueError(f"{layer}: expected labels of shape ({N},), one for each row of logits; got {labels.shape}")
    if device_of(labels) != "cpu":
        return labels
    wrong = np.flatnonzero((labels < 0) | (labels >= K))
    if wrong.size:
        raise ValueError(f"{layer}: expected labels in [0, {K}), got {labels[wrong[0]]} at index {wrong[0]}")
    return labels.astype(labels.dtype.newbyteorder("="), copy=False)


def is_on_a_gpu(array: Any) -> bool:
    """Whether it is a CuPy array."""
    return type(array).__module__.partition(".")[0] == "cupy"


def device_of(array: Any) -> str:
    """ "cpu" for a NumPy array, "cuda:K" for a CuPy array on device K. The array's type decides: no GPU is probed.

    Raises TypeError for anything that is not an array.
    """
    if type(array) is np.ndarray:
        return "cpu"
    kind = type(array).__module__.partition(".")[0]
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError("expected a plain NumPy array, got a masked one, whose mask would be lost; use .filled(value)")
    if kind == "numpy" and hasattr(array, "dtype"):
        return "cpu"
    if kind == "cupy":
        return f"cuda:{array.device.id}"
    raise TypeError(f"expected a NumPy array, got {type(array).__name__}")
