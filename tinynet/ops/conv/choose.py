"""Three ways to compute a convolution, and the choice between them.

    "im2col"    the lesson: the whole matrix of columns, then one product (`conv2d`)
    "panels"    the same, some columns at a time (`panels`)
    "winograd"  fewer products, for kernels that are square after their stride is taken apart (`winograd`, `cook_toom`)

`choose` estimates the work of the two fast ones from the shapes and takes the lesser. Arrays here are (N, C, H, W) with
any strides; the results have the batch innermost in memory. `precision` is what the twins on a GPU go by
(`tinynet.backend.precision`).
"""

import numpy as np

from tinynet.backend import buffers
from tinynet.backend.dispatch import with_gpu_twin
from tinynet.backend.layout import batch_first, batch_last
from tinynet.checks import Pair
from tinynet.ops.conv import panels, winograd
from tinynet.ops.conv.cook_toom import POINTS
from tinynet.ops.conv.panels import Window
from tinynet.ops.conv.vectors import LANES
from tinynet.ops.matmul import matmul, one_thread_blas

ALGORITHMS = ("auto", "winograd", "panels", "im2col")

# work besides the products, in multiply-accumulates: to take one value of a picture or of the kernels through a
# transform, or into a panel. Fitted to times on AlexNet's layers at batch 1 to 128
TRANSFORM, TRANSFORM_KERNEL, FILL = 30, 80, 6


def choose(
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    window: Window,
    kept: bool = False,
) -> str:
    """ "winograd" or "panels": which should be faster for x (N, C, H, W), y (N, O, OH, OW), weight (O, C/groups, KH,
    KW). kept: the transformed kernels stay from one call to the next."""
    N, O, OH, OW = y_shape
    taps = weight_shape[1] * weight_shape[2] * weight_shape[3]
    groups = x_shape[1] // weight_shape[1]
    direct = N * OH * OW * (O * taps + FILL * taps * groups)
    m = tile(y_shape, weight_shape, window, kept)
    return "winograd" if m and _work(m, y_shape, weight_shape, window, groups, kept) < direct else "panels"


def tile(y_shape: tuple[int, ...], weight_shape: tuple[int, ...], window: Window, kept: bool = False) -> int:
    """The m of the best F(m, r) for outputs (N, O, OH, OW); 0 where Winograd's algorithm does not apply."""
    r = taps_a_phase(window)
    sizes = range(2, max(POINTS) - r + 2) if r > 1 else ()
    return min(sizes, key=lambda m: _work(m, y_shape, weight_shape, window, 1, kept), default=0)


def taps_a_phase(window: Window) -> int:
    """r, the kernel's height and width when the stride is taken apart; 0 where they differ or there is a dilation."""
    kernel_size, stride, _, dilation = window
    down, across = (-(-kernel_size[i] // stride[i]) for i in (0, 1))
    return down if down == across and dilation == (1, 1) else 0


def _work(
    m: int, y_shape: tuple[int, ...], weight_shape: tuple[int, ...], window: Window, groups: int, kept: bool
) -> float:
    """Of the whole convolution, in multiply-accumulates."""
    N, O, OH, OW = y_shape
    (_, stride, _, _), r = window, taps_a_phase(window)
    points, pair = (m + r - 1) ** 2, 2 * LANES  # one unit would be the work of one thread, while another waits
    columns = -(-(-(-OH // m) * -(-OW // m) * N) // pair) * pair
    channels = weight_shape[1] * stride[0] * stride[1]  # of a group
    transform = 0 if kept else TRANSFORM_KERNEL * channels * O
    return points * (columns * (channels * O + TRANSFORM * (channels * groups + O)) + transform)


@with_gpu_twin
def forward(
    algorithm: str,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    output: Pair,
    window: Window,
    groups: int,
    relu: bool,
    kept: winograd.KeptKernels | None = None,
    precision: str = "fp32",
) -> np.ndarray:
    """y (N, O, *output); negative values become 0 if relu. `kept`: of this layer, if its weight stays for a while."""
    y = buffers.empty((len(weight), *output, len(x)), x.dtype)
    with one_thread_blas():
        if algorithm == "winograd":
            m = tile(batch_first(y).shape, weight.shape, window, kept is not None)
            winograd.forward(batch_last(x), weight, y, m, *window[1:3], groups, bias, relu, kept)
        else:
            panels.forward(batch_last(x), weight, y, window, groups, bias, relu)
    return batch_first(y)


@with_gpu_twin
def weight_gradient(
    algorithm: str,
    x: np.ndarray,
    dy: np.ndarray,
    shape: tuple[int, ...],
    window: Window,
    groups: int,
    precision: str = "fp32",
) -> np.ndarray:
    """dweight of `shape` (O, C/groups, KH, KW)."""
    with one_thread_blas():
        if algorithm == "winograd":
            m = tile(dy.shape, shape, window)
            return winograd.weight_gradient(batch_last(x), batch_last(dy), window[0], m, *window[1:3], groups)
        return panels.weight_gradient(batch_last(x), batch_last(dy), shape, window, groups)


@with_gpu_twin
def bias_gradient(dy: np.ndarray) -> np.ndarray:
    """(O,), the sum of dy over pictures and pixels."""
    rows = batch_last(dy).reshape(dy.shape[1], -1)
    return matmul(rows, np.ones((rows.shape[1], 1), dy.dtype))[:, 0]


@with_gpu_twin
def input_gradient(
    algorithm: str,
    dy: np.ndarray,
    weight: np.ndarray,
    shape: tuple[int, ...],
    window: Window,
    groups: int,
    precision: str = "fp32",
) -> np.ndarray:
    """dx of `shape` (N, C, H, W)."""
    N, C, H, W = shape
    dx = buffers.empty((C, H, W, N), dy.dtype)
    with one_thread_blas():
        if algorithm == "winograd":
            stride, r = window[1], taps_a_phase(window)
            outputs = N, C * stride[0] * stride[1], -(-H // stride[0]), -(-W // stride[1])
            turned = (r, r), (1, 1), (0, 0), (1, 1)
            m = tile(outputs, (outputs[1], len(weight) // groups, r, r), turned)
            winograd.input_gradient(batch_last(dy), weight, dx, m, *window[1:3], groups)
        else:
            panels.input_gradient(batch_last(dy), weight, dx, window, groups)
    return batch_first(dx)
