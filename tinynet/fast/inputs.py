"""The check of a layer's input, in one pass over memory on all threads."""

from typing import Any

from tinynet.ops.elementwise import all_finite


def check_input(layer: Any, x: Any, shape: Any = None) -> None:
    """What `Layer.check_input` raises."""
    layer.check_input(x, shape, finite=False)
    if not all_finite(x):
        layer.check_finite(x)
