"""A table of a network: what comes out of each layer, what it costs, and how much of the picture it sees."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tinynet.checks import Pair
from tinynet.layers.flatten import Flatten
from tinynet.layers.layer import Layer
from tinynet.layers.linear import Linear
from tinynet.layers.passes import how
from tinynet.layers.sequential import Sequential
from tinynet.parallel import Split

COLUMNS = (
    "name",
    "layer",
    "output shape",
    "parameters",
    "MACs",
    "activations",
    "receptive field",
    "unused border",
    "runs",
)


@dataclass(frozen=True)
class Row:
    """One layer. `activations` is the number of values in its output, batch included (4 bytes each in float32);
    `receptive_field` the (height, width) in input pixels that one output value depends on, None where it is the whole
    picture; `unused_border` the rows at the bottom and columns at the right of its input that no window reads; `runs`
    which lines compute it, see `tinynet.layers.passes.how`: "fast", of a convolution with the algorithm for this batch
    size ("fast: winograd"), or "plain", with the reason if a layer is no longer what its fast twin was written for."""

    name: str
    layer: Layer
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    activations: int
    receptive_field: Pair | None
    unused_border: Pair = (0, 0)
    runs: str = ""

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of COLUMNS."""
        return (
            self.name,
            type(self.layer).__name__,
            _times(self.output_shape),
            f"{self.parameters:,}" if self.parameters else "",
            f"{self.macs:,}" if self.macs else "",
            f"{self.activations:,}",
            "all" if self.receptive_field is None else _times(self.receptive_field),
            _times(self.unused_border) if any(self.unused_border) else "",
            self.runs,
        )


@dataclass
class Summary:
    """The rows of the table; `error` says why the layer after the last row does not fit, and is None if all do."""

    input_shape: tuple[int, ...]
    rows: list[Row] = field(default_factory=list)
    error: str | None = None

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one forward, for the batch of input_shape. FLOP = 2 * MAC."""
        return sum(row.macs for row in self.rows)

    @property
    def activations(self) -> int:
        return sum(row.activations for row in self.rows)

    def __str__(self) -> str:
        total = ("total", "", "", f"{self.parameters:,}", f"{self.macs:,}", f"{self.activations:,}", "", "", "")
        table = [COLUMNS, *(row.cells() for row in self.rows), total]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = []
        for cells in table:
            words = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
            numbers = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
            lines.append("  ".join(words + numbers).rstrip())
        rule = "-" * max(map(len, lines))
        text = [f"input {_times(self.input_shape)}", lines[0], rule, *lines[1:-1], rule, lines[-1]]
        text.append(
            f"activations in float32: {_bytes(4 * self.activations)}; parameters: {_bytes(4 * self.parameters)}"
        )
        if self.error:
            text.append(f"DOES NOT FIT: {self.error}")
        return "\n".join(text)

    __repr__ = __str__


def summary(model: Layer, input_shape: Sequence[int]) -> Summary:
    """The table of `model` for an input of (C, H, W) or (F,), or with the batch in front, (N, C, H, W) or (N, F).

    Each layer tells its shape without computing; one that has no output_shape of its own is tried on zeros.
    print(summary(...)) shows the table; the numbers are in `.rows`. If a layer does not fit, or fails in any other
    way, the table ends before it and `.error` says why. Raises ValueError for an impossible input_shape.
    """
    sizes = tuple(input_shape) if np.ndim(input_shape) == 1 else ()
    if len(sizes) not in (1, 2, 3, 4) or any(not isinstance(size, (int, np.integer)) or size < 1 for size in sizes):
        raise ValueError(
            "summary: expected an input_shape of 1 to 4 sizes of at least 1, such as (3, 227, 227) or (8,); "
            f"got {input_shape!r}"
        )
    shape = tuple(map(int, sizes if len(sizes) % 2 == 0 else (1, *sizes)))
    result = Summary(shape)
    seen: Pair | None = (1, 1)  # receptive field
    jump = (1, 1)  # input pixels between two neighbouring outputs
    for name, layer in _leaves(model.net if isinstance(model, Split) else model):
        try:
            output_shape, macs = tuple(layer.output_shape(shape)), layer.macs(shape)
        except Exception as error:  # a student's layer may fail in any way
            text = str(error)
            result.error = text if text.startswith(str(layer)) else f"{layer}: {type(error).__name__}: {text}"
            break
        unused = (0, 0)
        if layer.window is not None and seen is not None:
            (KH, KW), stride, padding, dilation = layer.window
            reach = dilation[0] * (KH - 1), dilation[1] * (KW - 1)
            seen = seen[0] + reach[0] * jump[0], seen[1] + reach[1] * jump[1]
            jump = jump[0] * stride[0], jump[1] * stride[1]
            last = [(output_shape[2 + i] - 1) * stride[i] - padding[i] + reach[i] for i in (0, 1)]
            unused = max(0, shape[2] - 1 - last[0]), max(0, shape[3] - 1 - last[1])
        if isinstance(layer, Linear):
            seen = None
        parameters = sum(parameter.size for parameter in layer.parameters())
        activations = 0 if isinstance(layer, Flatten) else math.prod(output_shape)  # Flatten makes no new values
        runs = how(layer, shape)
        result.rows.append(Row(name, layer, output_shape, parameters, macs, activations, seen, unused, runs))
        shape = output_shape
    return result


def _leaves(model: Layer) -> Iterator[tuple[str, Layer]]:
    if not isinstance(model, Sequential):
        yield model.name or type(model).__name__, model
        return
    for layer in model:
        yield from _leaves(layer)


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
