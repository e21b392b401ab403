"""Which twin of an op runs: the array decides."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from tinynet.backend import device


def with_gpu_twin(function: Callable[..., Any]) -> Callable[..., Any]:
    """An op that, given arrays of a GPU, calls the function of the same name in tinynet.ops.gpu.<its module>, which
    takes the same arguments and means the same by them. The first array decides, which may stand in a list."""
    stem = function.__module__.removeprefix("tinynet.ops.")

    @functools.wraps(function)
    def op(*args: Any, **options: Any) -> Any:
        firsts = (arg[0] if isinstance(arg, list | tuple) and arg else arg for arg in args)
        array = next((arg for arg in firsts if hasattr(arg, "dtype")), None)
        if type(array).__module__.partition(".")[0] != "cupy":
            return function(*args, **options)
        twin = getattr(importlib.import_module(f"tinynet.ops.gpu.{stem}"), function.__name__)
        with device.on(device.device_of(array)):
            return twin(*args, **options)

    return op
