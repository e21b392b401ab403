"""Packages whose names are imported when first used, so that a program that shows its help does not wait for numba."""

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any


class LazyPackage(ModuleType):
    """A package that imports what `homes` names, {name: module that defines it}, when it is first asked for it, and
    its own modules too. A function keeps its name even if a module of the same name is imported: in `tinynet.data`,
    `shapes` is the function of the module `shapes`."""

    homes: Mapping[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        if name in self.homes:
            value = getattr(importlib.import_module(self.homes[name]), name)
            setattr(self, name, value)
            return value
        module = f"{self.__name__}.{name}"
        if not name.startswith("_"):
            try:
                return importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name != module:  # it is there, and what it imports is not
                    raise
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.homes and isinstance(value, ModuleType):  # Python's import puts a module there
            value = getattr(value, name, value)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.homes})


def attach(package: str, homes: Mapping[str, str]) -> None:
    """Make the package, which is being imported, a LazyPackage; homes: relative to it, {"Loader": "loader"}."""
    module = sys.modules[package]
    module.__class__ = LazyPackage
    module.homes = {name: f"{package}.{home}" for name, home in homes.items()}  # type: ignore[attr-defined]
