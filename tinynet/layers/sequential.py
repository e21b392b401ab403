from collections.abc import Iterator, Mapping

from tinynet.errors import NonFiniteError
from tinynet.layers.layer import Layer
from tinynet.layers.passes import all_finite, backward_steps, forward_steps


class Sequential(Layer):
    """y = layer_k(... layer_2(layer_1(x))); backward goes through the layers in reverse order: the chain rule.

    A step is a layer's own forward or backward, or what is put in its place, for one layer or some neighbours
    (`tinynet.layers.passes`).

    Takes layers, which get the names "0", "1", ..., or one dict of names and layers. A name appears in error messages
    and in state_dict ("conv1.weight"). model["conv1"] and model[0] give a layer.

    Raises TypeError for what is no Layer, ValueError if there is none, a name has a dot, or one layer stands there
    twice.
    """

    def __init__(self, *layers: Layer | Mapping[str, Layer]):
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            self.layers = dict(layers[0])
        else:
            self.layers = dict(zip(map(str, range(len(layers))), layers, strict=True))  # type: ignore[arg-type]
        for name, layer in self.layers.items():
            if not isinstance(layer, Layer):
                raise TypeError(
                    f"Sequential: expected layers, got {type(layer).__name__} as '{name}'; "
                    "write Sequential(first, second, ...)"
                )
            if not isinstance(name, str) or not name or "." in name:
                raise ValueError(f"Sequential: expected a name without a dot, got {name!r}")
        inside = list(self.named_layers())
        if not inside or len({id(layer) for _, layer in inside}) < len(inside):
            raise ValueError("Sequential: expected at least one layer, and each layer once only")
        for name, layer in inside:
            layer.name = name

    def forward(self, x):
        previous = None
        for layers, step in forward_steps(list(self)):
            try:
                x = self.run("forward", step, x, layers)
            except NonFiniteError as error:
                makers = [previous, *layers[:-1]]  # of each layer's input
                found = [
                    maker for maker, layer in zip(makers, layers, strict=True) if error.layer == str(_end(layer, 0))
                ]
                if not found or found[0] is None:
                    raise
                maker = str(_end(found[0], -1))
                raise NonFiniteError(maker, f"gave NaN or infinity as its output (met by {error})") from error
            previous = layers[0]
        if len(layers) > 1 and not all_finite(x):  # what the last of them would have seen as its input
            raise NonFiniteError(str(layers[0]), "gave NaN or infinity as its output")
        return x

    def backward(self, dy):
        for layers, step in backward_steps(list(self)):
            dy = self.run("backward", step, dy, layers)
        return dy

    def run(self, direction, step, array, layers):
        """One step of forward or backward: the place to look on, for a subclass."""
        return step(array, *layers)

    @property
    def input_grad(self):
        return self[0].input_grad

    @input_grad.setter
    def input_grad(self, wanted):
        self[0].input_grad = wanted

    def output_shape(self, shape):
        for layer in self:
            shape = layer.output_shape(shape)
        return shape

    def macs(self, shape):
        total = 0
        for layer in self:
            total += layer.macs(shape)
            shape = layer.output_shape(shape)
        return total

    def children(self):
        return self.layers

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers.values())

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, key: int | str) -> Layer:
        if isinstance(key, str) and key not in self.layers:
            raise KeyError(f"{self}: expected a layer out of {', '.join(self.layers)}; got {key!r}")
        return self.layers[key] if isinstance(key, str) else list(self.layers.values())[key]

    def __repr__(self) -> str:
        lines = (f"  {name}: {layer!r}".replace("\n", "\n  ") for name, layer in self.layers.items())
        return "Sequential(\n" + "\n".join(lines) + "\n)"


def _end(layer: Layer, which: int) -> Layer:
    """The first (0) or last (-1) layer inside nested Sequentials."""
    while isinstance(layer, Sequential):
        layer = layer[which]
    return layer
