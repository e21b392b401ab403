"""Is what the GPU computes right? Each layer of a net, in each precision, and a whole step, beside float64 on the CPU.

The references are the layers in float64, convolutions by plain im2col, from the same float32 numbers: computed once for
all precisions. Random numbers are fresh for every layer, and every layer works in memory that is full of NaN, so that
an element which no kernel writes is seen.

A layer's y and dx must lie within BOUNDS of the reference (relative, L2 norm), and so must its parameters' gradients.
The whole step is the net as training runs it, with its passes over several layers, dropout, loss and update, in fp32:
there rounding may choose another side of a ReLU or another maximum, so that its bounds are those of the
CPU's benchmarks (peers.py, worker.py).
"""

import copy
from typing import Any

import gpu_nets
import nets
import numpy as np
import peers
import worker

from tinynet.backend import device
from tinynet.errors import DeviceError
from tinynet.layers import Conv2d, Layer, passes
from tinynet.losses import SoftmaxCE
from tinynet.optim import SGD

Row = dict[str, Any]
BOUNDS = {"fp32": (2e-6, 1e-5), "tf32x3": (2e-6, 1e-5), "tf32": (1e-3, 1e-3), "bf16": (1e-2, 1e-2)}  # y, dx; gradients
UPDATED = 1e-6  # weights after a step of SGD, beside the same update in float64 of the GPU's own gradients
LR, WEIGHT_DECAY = 0.01, 5e-4
SPARE = 1 << 26  # floats of poison beyond what the layer's arrays take: partial sums


def poison(where: str, count: int) -> None:
    """Let the next arrays on `where`, of `count` floats in all, begin as NaN: memory of the pool is used again."""
    device.cupy().get_default_memory_pool().free_all_blocks()
    block = device.empty((count,), np.float32, where)
    with device.on(where):
        block.fill(float("nan"))


def plain(layer: Layer) -> Layer:
    """A copy in float64 that takes none of the fast ways which are to be checked."""
    exact = copy.deepcopy(layer).astype(np.float64)
    for part in [exact, *(inside for _, inside in exact.named_layers())]:
        if isinstance(part, Conv2d):
            part.algorithm = "im2col"
    return exact


def results(layer: Layer, x: Any, dy: Any) -> dict[str, Any]:
    """y, dx and the gradients of one forward and backward, on the CPU."""
    found = {"y": layer(x), "dx": passes.backward(layer, dy)}
    found |= {f"d{name}": parameter.grad for name, parameter in layer.named_parameters()}
    return {name: device.to_cpu(array) for name, array in found.items()}


def check_layers(net: str, batch_size: int, precisions: list[str], seed: int, where: str) -> list[Row]:
    """A row for each layer and precision: the errors by name, and the names of those that are beyond their bound; or
    "not_run", why the device refused it."""
    rows, random = [], np.random.default_rng(seed)
    layer: Any
    for layer, shape in gpu_nets.layers(gpu_nets.fresh(net), net, batch_size):
        x = random.standard_normal((*shape[1:], batch_size), np.float32) * np.float32(nets.NETS[net].scale)
        dy = random.standard_normal((*layer.output_shape(shape)[1:], batch_size), np.float32)
        x, dy = np.moveaxis(x, -1, 0), np.moveaxis(dy, -1, 0)
        expected = results(plain(layer), x.astype(np.float64), dy.astype(np.float64))
        count = 3 * (x.size + dy.size) + 2 * sum(p.size for p in layer.parameters()) + SPARE
        for precision in precisions if gpu_nets.depends_on_precision(layer) else precisions[:1]:
            layer.to(where)
            layer.zero_grad()
            layer.at_step(0)
            layer.set_precision(precision)
            about = {"net": net, "batch_size": batch_size, "layer": layer.name, "precision": precision}
            try:
                poison(where, count)
                found = results(layer, device.to_device(x, where), device.to_device(dy, where))
            except DeviceError as error:  # the other rows are worth having
                rows.append({**about, "errors": {}, "wrong": [], "not_run": str(error)})
                continue
            errors = {name: worker.relative_error(array, expected[name]) for name, array in found.items()}
            wrong = [key for key, error in errors.items() if not error <= BOUNDS[precision][key not in ("y", "dx")]]
            rows.append({**about, "errors": errors, "wrong": wrong})
        layer.to("cpu")
    return rows


def check_step(net: str, batch_size: int, seed: int, where: str) -> list[Row]:
    """One row, layer "step": logits, loss, the worst gradient and the worst updated parameter of a training step."""
    model, random = gpu_nets.fresh(net), np.random.default_rng(seed)
    size = nets.NETS[net].image_size
    x = random.standard_normal((batch_size, 3, size, size), np.float32) * np.float32(nets.NETS[net].scale)
    labels = random.integers(0, worker.CLASSES_USED, batch_size)
    exact, before = plain(model), model.state_dict()
    poison(where, 64 * x.size + SPARE)
    found, expected = _step(model.to(where), device.to_device(x, where), labels), _step(exact, x.astype(float), labels)
    for name, parameter in exact.named_parameters():
        w, lr = before[name].astype(float), LR * parameter.lr_mult
        decay = WEIGHT_DECAY * parameter.weight_decay_mult
        expected[f"new {name}"] = w - lr * (found[f"d {name}"].astype(float) + decay * w)
    errors = {key: worker.relative_error(found[key], expected[key]) for key in expected}
    bounds = {"logits": peers.LOGITS_TOLERANCE, "loss": peers.LOGITS_TOLERANCE, "d": worker.GRADIENTS_TOLERANCE}
    wrong = [key for key, error in errors.items() if not error <= bounds.get(key.partition(" ")[0], UPDATED)]
    about = {"net": net, "batch_size": batch_size, "layer": "step", "precision": "fp32"}
    worst = {kind: max((e for key, e in errors.items() if key.startswith(kind)), key=_badness) for kind in KINDS}
    return [{**about, "errors": worst, "wrong": wrong}]


KINDS = "logits", "loss", "d ", "new "


def _badness(error: float) -> tuple[bool, float]:
    return error != error, error  # NaN is the worst


def _step(model: Layer, x: Any, labels: np.ndarray) -> dict[str, np.ndarray]:
    loss, optimizer = SoftmaxCE(), SGD(model.parameters(), LR, weight_decay=WEIGHT_DECAY)
    model.at_step(1)
    logits = model(x)
    found = {"logits": device.to_cpu(logits), "loss": np.array([float(loss(logits, labels))])}
    model.backward(passes.backward(loss))
    found |= {f"d {name}": device.to_cpu(parameter.grad) for name, parameter in model.named_parameters()}
    optimizer.step()
    return found | {f"new {name}": value for name, value in model.state_dict().items()}
