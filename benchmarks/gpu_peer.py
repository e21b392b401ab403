"""PyTorch's side of the GPU's benchmark: the same nets of PyTorch's own layers, in its best settings of each precision.

Compared are: what PyTorch does if nothing is said; strict fp32; TF32 with channels_last and cudnn.benchmark; bf16 by
autocast, and with weights in bf16 too; the last three and strict fp32 also as a CUDA graph and by torch.compile. All
of it also runs on PyTorch's "cpu", but for CUDA graphs, so that the code is tested without a GPU.
"""

import contextlib
import importlib
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gpu_nets
import numpy as np
import worker_oracle

from tinynet.layers import Layer, Sequential

BACKEND = "inductor"  # of torch.compile
Call = Callable[[], Any]


class Setting(NamedTuple):
    """dtype: "float32", "autocast" or "bfloat16"; way: "eager", "graph" or "compiled"."""

    precision: str
    conv_tf32: bool = False
    matmul_tf32: bool = False
    tuned: bool = True  # cudnn.benchmark
    channels_last: bool = False
    dtype: str = "float32"
    way: str = "eager"


STRICT = Setting("fp32")
TF32 = Setting("tf32", conv_tf32=True, matmul_tf32=True, channels_last=True)
BF16 = TF32._replace(precision="bf16", dtype="autocast")
SETTINGS = {
    "default": Setting("tf32", conv_tf32=True, tuned=False),
    "strict fp32": STRICT,
    "TF32": TF32,
    "bf16 autocast": BF16,
    "bf16 weights": BF16._replace(dtype="bfloat16"),
    **{
        f"{name}, {way}": setting._replace(way=way)
        for way in ("graph", "compiled")
        for name, setting in (("strict fp32", STRICT), ("TF32", TF32), ("bf16 autocast", BF16))
    },
}


def torch() -> Any:
    """The module. Raises ImportError if it is not there."""
    return importlib.import_module("torch")


def usable(where: str) -> str:
    """Why PyTorch cannot be compared with on `where`; "" if it can."""
    try:
        there = torch().cuda.is_available() or where == "cpu"
    except ImportError as error:
        return f"PyTorch cannot be imported: {error}"
    return "" if there else "this PyTorch sees no GPU"


def apply(setting: Setting) -> None:
    """Make it the process's setting. Of PyTorch's two ways to say TF32 the older one, which all versions know:
    torch.compile fails if both were used."""
    backends = torch().backends
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch().set_float32_matmul_precision("high" if setting.matmul_tf32 else "highest")
        backends.cudnn.allow_tf32 = setting.conv_tf32
        backends.cudnn.benchmark = setting.tuned


@contextlib.contextmanager
def as_before(used: bool = True) -> Iterator[None]:
    """Within it settings may change; then they are PyTorch's own again. Not used: PyTorch may not even be there."""
    try:
        yield
    finally:
        if used:
            apply(SETTINGS["default"])


def order(setting: Setting) -> Any:
    return torch().channels_last if setting.channels_last else torch().contiguous_format


def dtype(setting: Setting) -> Any:
    return torch().bfloat16 if setting.dtype == "bfloat16" else torch().float32


def tensor(array: np.ndarray, setting: Setting, where: str) -> Any:
    """`array`, whose batch is innermost in memory, on `where` as this setting likes it."""
    there = torch().from_numpy(np.moveaxis(array, 0, -1)).to(where, dtype(setting)).movedim(-1, 0)
    return there.contiguous(memory_format=order(setting) if array.ndim == 4 else torch().contiguous_format)


def same_layer(layer: Layer, setting: Setting, where: str) -> Any:
    """PyTorch's layer of the same kind and numbers."""
    kinds = importlib.import_module("worker_torch").KINDS
    made = kinds[type(layer).__name__](**worker_oracle.options(layer))
    made.load_state_dict({name: torch().from_numpy(value) for name, value in layer.state_dict().items()})
    return made.to(where, dtype(setting)).to(memory_format=order(setting))


def within(setting: Setting, where: str) -> Any:
    """The context that a forward runs in."""
    if setting.dtype != "autocast":
        return contextlib.nullcontext()
    return torch().autocast(where.partition(":")[0], torch().bfloat16)


def layer_calls(layer: Layer, setting: Setting, x: Any, dy: Any, where: str) -> tuple[Call, Call]:
    """(forward, backward) of one layer. Backward gives dx, unless nobody reads it, and the parameters' gradients."""
    made = same_layer(layer, setting, where)
    made.inplace = False  # of a ReLU
    x, dy = tensor(x, setting, where), tensor(dy, setting, where)
    targets = list(made.parameters())
    if getattr(layer, "input_grad", True):
        targets.insert(0, x.requires_grad_())

    def forward() -> Any:
        with within(setting, where):
            return made(x)

    y = forward()
    dy = dy.to(y.dtype)
    return forward, lambda: torch().autograd.grad(y, targets, dy, retain_graph=True)


def step(net: Sequential, setting: Setting, x: np.ndarray, labels: np.ndarray, where: str) -> Call:
    """A training step of the same net. Raises what PyTorch raises if the way of this setting does not work."""
    model = torch().nn.Sequential(OrderedDict((layer.name, same_layer(layer, setting, where)) for layer in net))
    batch, there = tensor(x, setting, where), torch().from_numpy(labels).to(where)
    loss = torch().nn.CrossEntropyLoss()
    optimizer = torch().optim.SGD(model.parameters(), lr=gpu_nets.LR, momentum=0.9, weight_decay=5e-4)
    run = torch().compile(model, backend=BACKEND) if setting.way == "compiled" else model

    def call() -> None:
        optimizer.zero_grad()
        with within(setting, where):
            value = loss(run(batch), there)
        value.backward()
        optimizer.step()

    if setting.way != "graph":
        return call
    with torch().cuda.device(where):
        return captured(call)


def captured(call: Call) -> Call:
    """`call` as a CUDA graph, after three calls on another stream, as PyTorch's documentation has it."""
    cuda = torch().cuda
    stream = cuda.Stream()
    stream.wait_stream(cuda.current_stream())
    with cuda.stream(stream):
        for _ in range(3):
            call()
    cuda.current_stream().wait_stream(stream)
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        call()
    return graph.replay


def products(size: int, where: str) -> dict[str, Call]:
    """{precision: a product of two random matrices}, of what cuBLAS can do best."""
    made: dict[str, Call] = {}
    for precision in ("fp32", "tf32", "bf16"):
        setting = Setting(precision, matmul_tf32=precision == "tf32")
        a = torch().randn(size, size, device=where, dtype=torch().bfloat16 if precision == "bf16" else None)
        b = torch().randn_like(a)

        def product(a: Any = a, b: Any = b, setting: Setting = setting) -> Any:
            apply(setting)
            return a @ b

        made[precision] = product
    return made


def release() -> None:
    """Give the memory that nobody uses back to the GPU, for the other library; peaks begin anew."""
    if sys.modules.get("torch") is not None and torch().cuda.is_available():
        torch().cuda.empty_cache()
        torch().cuda.reset_peak_memory_stats()


def memory() -> tuple[int, int]:
    """(bytes of arrays now, at the peak); zeros without a GPU."""
    cuda = torch().cuda
    return (cuda.memory_allocated(), cuda.max_memory_allocated()) if cuda.is_available() else (0, 0)
