"""The worker process that says what is right: tinynet's net in float64, whose layers the tests compare with loops.

It also measures how fast this machine multiplies matrices. The process is gone before anything is timed.
"""

import json
import platform
import time
from pathlib import Path
from typing import Any

import nets
import numba
import numpy as np
import worker

import tinynet
from tinynet import random
from tinynet.layers import LRN, Conv2d, Dropout, Layer, Linear, MaxPool, ReLU, Sequential
from tinynet.losses import SoftmaxCE

NOISE = 3e-5  # relative, on each pixel; it moves the logits by about 1e-6, as rounding to float32 does
PRODUCTS = {2048: 5, 4096: 3}  # size of the matrices, how often


def options(layer: Layer) -> dict[str, Any]:
    """What PyTorch's layer of the same kind needs to know."""
    match layer:
        case Conv2d():
            kernel_size, stride, padding, dilation = layer.window
            channels = {"in_channels": layer.in_channels, "out_channels": layer.out_channels, "groups": layer.groups}
            window = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
            return {**channels, **window, "bias": layer.bias is not None}
        case Linear():
            sizes = {"in_features": layer.in_features, "out_features": layer.out_features}
            return {**sizes, "bias": layer.bias is not None}
        case MaxPool():
            kernel_size, stride, padding, _ = layer.window
            return {"kernel_size": kernel_size, "stride": stride, "padding": padding, "ceil_mode": layer.ceil_mode}
        case LRN():
            return {key: getattr(layer, key) for key in ("size", "alpha", "beta", "k", "groups")}
        case Dropout():
            return {"p": layer.p}
    return {}


def logits_and_gradients(net: Sequential, x: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Layer by layer and by the layers' own lines: none of the fast ways that are to be checked."""
    net.zero_grad()
    loss = SoftmaxCE()
    for layer in net:
        x = layer.forward(x)
    loss.forward(x, worker.labels_of(len(x)))
    gradient = loss.backward()
    for layer in reversed(list(net)):
        gradient = layer.backward(gradient)
    return x, {name: parameter.grad.copy() for name, parameter in net.named_parameters()}


class Oracle:
    def describe(self, folder: str, net: str, image_size: int | None, batch_size: int, check_batch: int) -> Any:
        """Write the net, its weights, an input, and the right logits and gradients of that input's first pictures;
        say what the net costs (multiply-accumulates of one picture forward) and what is installed.

        Also write each gradient's wobble: its relative change when noise of the size of float32's rounding makes ReLU
        and max pooling choose otherwise, here in float64. In a small net one choice counts for several per cent."""
        place, model, size = Path(folder), nets.build(net, image_size), image_size or nets.NETS[net].image_size
        shape: tuple[int, ...] = (1, 3, size, size)
        costs = {"macs": model.macs(shape), "first_layer_macs": model[0].macs(shape)}
        layers, after_relu = {}, False
        for layer in model:
            start, shape = shape, layer.output_shape(shape)
            layers[layer.name] = {"kind": type(layer).__name__, "options": options(layer), "after_relu": after_relu}
            layers[layer.name] |= {"in": start[1:], "out": shape[1:]}
            after_relu = isinstance(layer, ReLU) or (after_relu and not isinstance(layer, (Conv2d, Linear)))
        layers["loss"] = {"kind": "", "options": {}, "after_relu": False, "in": shape[1:], "out": ()}
        about = {"net": net, "image_size": image_size, "layers": layers}
        (place / "net.json").write_text(json.dumps(about), "utf-8")
        np.savez(place / "weights.npz", **model.state_dict())  # type: ignore[arg-type]
        x = random.normal((max(batch_size, check_batch), 3, size, size), 0, "benchmark", dtype=np.float32)
        x *= np.float32(nets.NETS[net].scale)
        np.save(place / "x.npy", x)

        pictures = x[:check_batch].astype(np.float64)
        logits, gradients = logits_and_gradients(model.astype(np.float64).eval(), pictures)
        noise = NOISE * random.normal(pictures.shape, 0, "noise", dtype=np.float64)
        _, others = logits_and_gradients(model, pictures * (1 + noise))
        answers: dict[str, Any] = {f"d {name}": gradient.astype(np.float32) for name, gradient in gradients.items()}
        answers |= {f"wobble {name}": worker.relative_error(others[name], gradients[name]) for name in gradients}
        np.savez(place / "expected.npz", logits=logits, **answers)
        versions = {"tinynet": tinynet.__version__, "numpy": np.__version__, "numba": numba.__version__}
        return {**costs, "versions": {"python": platform.python_version(), **versions}}

    def sgemm_gflops(self) -> float:
        """10**9 float32 operations a second of numpy.matmul, two for each multiply-accumulate: the best of several."""
        best = 0.0
        for size, times in PRODUCTS.items():
            a = random.normal((size, size), 0, "sgemm", dtype=np.float32)
            out = np.empty_like(a)
            for _ in range(times):
                began = time.perf_counter()
                np.matmul(a, a, out=out)
                best = max(best, 2 * size**3 / (time.perf_counter() - began) / 1e9)
        return best


if __name__ == "__main__":
    worker.serve(Oracle())
