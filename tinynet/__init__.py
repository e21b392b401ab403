"""tinynet: a from-scratch deep learning library with hand-written backprop.

Whatever is named here is imported when it is first used, so that `import tinynet` itself takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinynet import data, inspect, io, layers, losses, models, ops, optim, parallel, plots, random, training
    from tinynet.backend.device import to_cpu, to_device
    from tinynet.backend.threads import get_num_threads, set_num_threads
    from tinynet.inspect.gradcheck import gradcheck
    from tinynet.inspect.summary import summary
    from tinynet.io.checkpoints import load_weights, save_weights
    from tinynet.training.evaluate import evaluate
    from tinynet.training.loading import load_run
    from tinynet.training.predict import predict
    from tinynet.training.trainer import Trainer

__version__ = "0.1.0"

HOMES = {  # of the names that are no modules
    "Trainer": "training.trainer",
    "evaluate": "training.evaluate",
    "get_num_threads": "backend.threads",
    "gradcheck": "inspect.gradcheck",
    "load_run": "training.loading",
    "load_weights": "io.checkpoints",
    "predict": "training.predict",
    "save_weights": "io.checkpoints",
    "set_num_threads": "backend.threads",
    "summary": "inspect.summary",
    "to_cpu": "backend.device",
    "to_device": "backend.device",
}

__all__ = [
    "Trainer",
    "data",
    "evaluate",
    "get_num_threads",
    "gradcheck",
    "inspect",
    "io",
    "layers",
    "load_run",
    "load_weights",
    "losses",
    "models",
    "ops",
    "optim",
    "parallel",
    "plots",
    "predict",
    "random",
    "save_weights",
    "set_num_threads",
    "summary",
    "to_cpu",
    "to_device",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in HOMES:
        value = getattr(importlib.import_module(f"tinynet.{HOMES[name]}"), name)
    elif name in __all__:
        return importlib.import_module(f"tinynet.{name}")
    else:
        raise AttributeError(f"module 'tinynet' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
