"""The program: `tinynet`, `python -m tinynet`, and examples/train_alexnet.py."""

from tinynet.cli.program import main, train_alexnet

__all__ = ["main", "train_alexnet"]
