"""The worker process that imports PyTorch: the same net, made of PyTorch's own layers with PyTorch's own defaults.

ReLU works in place in the net, as torchvision writes AlexNet, and on a copy where it is timed alone.
"""

import importlib
import os
from collections import OrderedDict
from typing import Any

import numpy as np
import worker

torch: Any = importlib.import_module("torch")  # optional: type checkers must not look for it
nn: Any = torch.nn


class TowerLRN(nn.Module):
    """tinynet's LRN: PyTorch divides alpha by size, and knows no groups."""

    def __init__(self, size: int, alpha: float, beta: float, k: float, groups: int):
        super().__init__()
        self.groups, self.lrn = groups, nn.LocalResponseNorm(size, alpha * size, beta, k)

    def forward(self, x: Any) -> Any:
        N, C, H, W = x.shape  # a tower's channels stand together: views, no copies
        return self.lrn(x.reshape(N * self.groups, C // self.groups, H, W)).reshape(x.shape)


KINDS: dict[str, Any] = {
    "Conv2d": nn.Conv2d,
    "Dropout": nn.Dropout,
    "Flatten": nn.Flatten,
    "LRN": TowerLRN,
    "Linear": nn.Linear,
    "MaxPool": nn.MaxPool2d,
    "ReLU": lambda: nn.ReLU(inplace=True),
}


class TorchWorker(worker.Worker):
    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.loss = nn.CrossEntropyLoss()

    def version(self) -> str:
        return str(torch.__version__)

    def build(self):
        layers = self.about["layers"].items()
        self.net = nn.Sequential(
            OrderedDict((name, KINDS[layer["kind"]](**layer["options"])) for name, layer in layers if layer["kind"])
        )
        self.net.load_state_dict({name: torch.from_numpy(array) for name, array in self.weights().items()})

    def answers(self, x, labels):
        self.net.eval()
        logits = self.net(torch.from_numpy(x))
        self.loss(logits, torch.from_numpy(labels)).backward()
        return logits.detach().numpy(), {name: p.grad.numpy() for name, p in self.net.named_parameters()}

    def take(self, x, labels, training):
        self.net.train(training)
        self.x, self.labels = torch.from_numpy(np.array(x)), torch.from_numpy(labels)
        if not training:
            return {"step": self.infer}
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
        return {"step": self.step}

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss(self.net(self.x), self.labels).backward()
        self.optimizer.step()

    def infer(self) -> None:
        with torch.inference_mode():
            self.net(self.x)

    def note_memory_orders(self) -> None:
        """All is (N, C, H, W) here."""

    def open_layer(self, name: str, batch_size: int) -> list[list[float]]:
        """Make `name` what is timed; a `sample` of its y, dx and parameters' gradients (none if they are random)."""
        if name == "SGD":
            self.gradients = [torch.zeros_like(parameter) for parameter in self.net.parameters()]
            self.calls = {"step": self.update}
            return []
        x, dy = (torch.from_numpy(a) for a in self.layer_values(name, batch_size))
        is_first, targets = name == next(iter(self.about["layers"])), []
        if name == "loss":
            dy = torch.tensor(1.0)
        else:
            layer = self.net.get_submodule(name)
            layer.inplace = False  # of a ReLU
            targets = list(layer.parameters())
        if not is_first:
            targets.insert(0, x.requires_grad_())

        def forward() -> Any:
            return self.loss(x, self.labels) if name == "loss" else layer(x)

        y = forward()

        def backward() -> Any:
            return torch.autograd.grad(y, targets, dy, retain_graph=True)

        self.calls = {"forward": forward, "backward": backward}
        random = self.about["layers"][name]["kind"] == "Dropout"
        if name == "loss":
            return [[float(y.detach())], worker.sample(backward()[0].numpy())]
        return [] if random else [worker.sample(a.detach().numpy()) for a in (y, *backward())]

    def update(self) -> None:
        for parameter, gradient in zip(self.net.parameters(), self.gradients, strict=True):
            parameter.grad = gradient  # zero_grad forgets it
        self.optimizer.step()
        self.optimizer.zero_grad()


if __name__ == "__main__":
    worker.serve(TorchWorker())
