"""Matrix products on a GPU, by cuBLAS through CuPy. CPU twin: tinynet/ops/matmul.py."""

from typing import Any

import numpy as np

from tinynet import device, graph
from tinynet.ops.gpu import same_place


def matmul(a: Any, b: Any, out: Any = None) -> Any:
    if (recorded := graph.recording()) is None:
        return device.cupy().matmul(a, b, out=out)
    if out is None:
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        out = same_place(a, shape, np.result_type(a.dtype, b.dtype))
    recorded.outside(lambda: device.cupy().matmul(a, b, out=out))
    return out
