"""The arithmetic of sliding windows, the same for convolution and pooling."""

Pair = tuple[int, int]


def checked_pair(layer: str, name: str, value: int | Pair, least: int) -> Pair:
    """3 -> (3, 3), (h, w) -> (h, w). ValueError for anything but one or two whole numbers of at least `least`."""
    values = (value, value) if isinstance(value, int) else value
    ok = isinstance(values, (tuple, list)) and len(values) == 2
    if not ok or any(isinstance(v, bool) or not isinstance(v, int) or v < least for v in values):
        raise ValueError(
            f"{layer}: expected {name} to be a whole number of at least {least} or two, (h, w); got {value!r}"
        )
    return values[0], values[1]


def checked_counts(layer: str, **counts: int) -> None:
    """Raises ValueError unless each is a whole number of at least 1."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{layer}: expected {name} to be a whole number of at least 1, got {value!r}")


def checked_window(
    layer: str, kernel_size: int | Pair, stride: int | Pair, padding: int | Pair, dilation: int | Pair
) -> tuple[Pair, Pair, Pair, Pair]:
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
