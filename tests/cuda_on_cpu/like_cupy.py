"""The simulated GPU as a test meets a real one: CuPy 14.2's names and nothing of the stand-in's own, classes that
nobody can patch, one device. Only the code of this folder sees what is behind."""

import sys
import types
from pathlib import Path

from .fake_cupy import FakeCupy
from .fake_names import names

PLACES = {"ndarray": "ndarray", "Device": "cuda.Device", "Event": "cuda.Event", "Stream": "cuda.Stream"}
PLACES |= {"MemoryPool": "cuda.MemoryPool"}
MODULES = {"": {"cuda", "linalg", "lib"}, "cuda": {"runtime", "cublas"}}


def _inside():
    """Whether the caller's caller is code of this folder."""
    return sys._getframe(2).f_globals.get("__name__", "").split(".")[0] == "cuda_on_cpu"


def _check(space, name, modules=()):
    if name not in names(space) and name not in modules and not (name.startswith("__") and name.endswith("__")):
        raise AttributeError(f"cupy{space and '.'}{space} has no attribute {name!r}")


class _Fixed(type):
    """Of classes written in C."""

    def __setattr__(cls, name, value):
        if not _inside():
            raise TypeError(f"cannot set {name!r} attribute of immutable type 'cupy.{cls.__name__}'")
        super().__setattr__(name, value)

    def __delattr__(cls, name):
        raise TypeError(f"cannot delete {name!r} attribute of immutable type 'cupy.{cls.__name__}'")

    def __getattribute__(cls, name):
        if not _inside():
            _check(PLACES[type.__getattribute__(cls, "__name__")], name)
        return super().__getattribute__(name)


class _Guarded:
    def __getattribute__(self, name):
        if not _inside():
            _check(PLACES[object.__getattribute__(self, "__class__").__name__], name)
        return super().__getattribute__(name)

    def __setattr__(self, name, value):
        if not _inside():
            raise AttributeError(f"attribute {name!r} of a class of CuPy's is not writable")
        super().__setattr__(name, value)


class _Module:
    """cupy.cuda and what lies in it."""

    def __init__(self, space, behind):
        object.__setattr__(self, "_space", space)
        object.__setattr__(self, "_behind", behind)

    def __getattr__(self, name):
        if not _inside():
            _check(self._space, name, MODULES.get(self._space, ()))
        return getattr(self._behind, name)

    def __setattr__(self, name, value):
        setattr(self._behind, name, value)


class LikeCupy(FakeCupy):
    def __init__(self, folder: Path):
        super().__init__(folder, devices=1)
        inner = self.cuda
        self.__version__ = "14.2.0"
        inner.runtime, inner.cublas = _Module("cuda.runtime", inner.runtime), _Module("cuda.cublas", inner.cublas)
        self.cuda = _Module("cuda", inner)

    def own(self, kind):
        attributes = {"fake": self}
        if kind.__name__ == "Device":  # a dictionary of the device's, made when asked for
            attributes["attributes"] = property(lambda device: dict(kind.attributes))
            attributes["compute_capability"] = property(lambda device: kind.compute_capability)
        return _Fixed(kind.__name__, (_Guarded, kind), attributes)

    def __getattribute__(self, name):
        if not _inside():
            _check("", name, MODULES[""])
        return types.ModuleType.__getattribute__(self, name)
