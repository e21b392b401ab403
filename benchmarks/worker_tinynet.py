"""The worker process that imports tinynet."""

from typing import Any

import nets
import numpy as np
import worker

from tinynet.layers import passes
from tinynet.losses import SoftmaxCE
from tinynet.optim import SGD


def axes_in_memory(x: np.ndarray) -> tuple[int, ...]:
    """x's axes, the outermost in memory first."""
    return tuple(int(axis) for axis in np.argsort([-stride for stride in x.strides], kind="stable"))


def in_order(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The same values in the memory order that `axes_in_memory` tells."""
    return np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))


class TinynetWorker(worker.Worker):
    def build(self):
        self.net, self.loss = nets.build(self.about["net"], self.about["image_size"]), SoftmaxCE()
        self.net.load_state_dict(self.weights())
        self.net.input_grad = False
        self.steps = 0

    def answers(self, x, labels):
        self.net.eval()
        logits = self.net(in_order(x, (1, 2, 3, 0)))
        self.loss(logits, labels)
        self.net.backward(passes.backward(self.loss))
        return logits, {name: parameter.grad for name, parameter in self.net.named_parameters()}

    def take(self, x, labels, training):
        self.net.train(training)
        self.x, self.labels = in_order(x, (1, 2, 3, 0)), labels  # the batch innermost, as the loader gives it
        if not training:
            return {"step": lambda: self.net(self.x)}
        self.optimizer = SGD(self.net.parameters(), lr=1e-4)
        return {"step": self.step}

    def step(self):
        self.net.at_step(self.steps)
        self.steps += 1
        self.optimizer.zero_grad()
        self.loss(self.net(self.x), self.labels)
        self.net.backward(passes.backward(self.loss))
        self.optimizer.step()

    def note_memory_orders(self) -> None:
        """One pass through the whole net: in which memory order does each layer get its x and its dy?"""
        x, self.orders = self.x, {}
        for layer in self.net:
            self.orders[layer.name] = [axes_in_memory(x)]
            x = layer(x)
        self.loss(x, self.labels)
        self.orders["loss"] = [axes_in_memory(x)]
        dy = passes.backward(self.loss)
        for layer in reversed(list(self.net)):
            self.orders[layer.name].append(axes_in_memory(dy))
            dy = passes.backward(layer, dy)

    def open_layer(self, name: str, batch_size: int) -> list[list[float]]:
        """Make `name` what is timed; a `sample` of its y, dx and parameters' gradients (none if they are random)."""
        if name == "SGD":
            self.gradients = [np.zeros_like(parameter.grad) for parameter in self.net.parameters()]
            self.calls = {"step": self.update}
            return []
        if name == "loss":
            logits = in_order(self.layer_values(name, batch_size)[0], *self.orders[name])
            self.calls = {
                "forward": lambda: self.loss(logits, self.labels),
                "backward": lambda: passes.backward(self.loss),
            }
            return [[self.loss(logits, self.labels)], worker.sample(passes.backward(self.loss))]
        layer: Any = self.net[name]
        x, dy = (
            in_order(a, axes) for a, axes in zip(self.layer_values(name, batch_size), self.orders[name], strict=True)
        )
        self.calls = {"forward": lambda: layer(x), "backward": lambda: passes.backward(layer, dy)}
        layer.zero_grad()
        results = [layer(x), passes.backward(layer, dy), *(parameter.grad for parameter in layer.parameters())]
        random = self.about["layers"][name]["kind"] == "Dropout"
        return [] if random else [worker.sample(a) for a in results if a is not None]

    def update(self) -> None:
        for parameter, gradient in zip(self.net.parameters(), self.gradients, strict=True):
            parameter.grad = gradient  # as backward leaves it; zero_grad forgets it
        self.optimizer.step()
        self.optimizer.zero_grad()


if __name__ == "__main__":
    worker.serve(TinynetWorker())
