"""tinynet: a from-scratch deep learning library with hand-written backprop."""

from typing import TYPE_CHECKING

from tinynet.backend.lazy import attach

if TYPE_CHECKING:
    from tinynet import data, layers, losses, models, optim, parallel, plots, random
    from tinynet.backend.device import to_cpu, to_device
    from tinynet.backend.threads import get_num_threads, set_num_threads
    from tinynet.inspect.gradcheck import gradcheck
    from tinynet.inspect.summary import summary
    from tinynet.io.checkpoints import load_weights, save_weights
    from tinynet.mode import plain
    from tinynet.training.evaluate import evaluate
    from tinynet.training.loading import load_run
    from tinynet.training.predict import predict
    from tinynet.training.trainer import Trainer

__version__ = "0.1.0"
__all__ = [
    "Trainer",
    "data",
    "evaluate",
    "get_num_threads",
    "gradcheck",
    "layers",
    "load_run",
    "load_weights",
    "losses",
    "models",
    "optim",
    "parallel",
    "plain",
    "plots",
    "predict",
    "random",
    "save_weights",
    "set_num_threads",
    "summary",
    "to_cpu",
    "to_device",
]
# a function's module, imported when the function is first used; the packages and modules are found by their names
attach(
    __name__,
    {
        "Trainer": "training.trainer",
        "evaluate": "training.evaluate",
        "get_num_threads": "backend.threads",
        "gradcheck": "inspect.gradcheck",
        "load_run": "training.loading",
        "load_weights": "io.checkpoints",
        "plain": "mode",
        "predict": "training.predict",
        "save_weights": "io.checkpoints",
        "set_num_threads": "backend.threads",
        "summary": "inspect.summary",
        "to_cpu": "backend.device",
        "to_device": "backend.device",
    },
)
