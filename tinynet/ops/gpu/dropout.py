"""Dropout: launches of kernels/dropout.cu. CPU twin: tinynet/ops/dropout.py, whose masks these are."""

from typing import Any, NamedTuple

from tinynet.backend import cuda_graph
from tinynet.backend.launch import launch
from tinynet.ops.gpu import FULL, blocks, pictures_first, same_place, t


class Draw(NamedTuple):
    """What tells the mask, in place of the mask: a GPU draws it again faster than it reads it."""

    seed: int
    stream: int
    step: int
    part: tuple[int, int]
    first_step: Any  # (1,) on the device: from where a CUDA graph, which repeats `step`, counts; or None


def dropout_forward(
    x: Any, p: float, seed: int, stream: int, step: int, part: tuple[int, int] = (0, 1)
) -> tuple[Any, Draw]:
    recorded = cuda_graph.recording()
    draw = Draw(seed, stream, step, part, recorded and recorded.inputs["step"])
    return _dropped(x, p, draw), draw


def dropout_backward(dy: Any, kept: Draw, p: float) -> Any:
    return _dropped(dy, p, kept)


def _dropped(x, p, draw):
    N = len(x)
    columns = x.transpose(*range(1, x.ndim), 0)
    columns = columns if columns.flags.c_contiguous else columns.copy()
    y = same_place(x, columns.shape)
    F, block = x.size // N, pictures_first(N)
    grid = (blocks(F // 4 + 2, block[1], FULL),)
    numbers = {"threshold": round(p * 2**32), "scale": 1 / (1 - p), "first_step": draw.first_step}
    numbers |= {"seed": draw.seed, "stream": draw.stream, "step": draw.step}
    numbers |= {"whole": draw.part[1] * F, "offset": draw.part[0] * F}
    launch("dropout", f"dropout<{t(x)}>", grid, block, x=columns.reshape(F, N), y=y.reshape(F, N), **numbers)
    return y.transpose(x.ndim - 1, *range(x.ndim - 1))
