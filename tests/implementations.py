"""The implementations of every layer, behind one face, so that one test body runs in all of them.

    plain           the lines of the layers' own files, on NumPy's arrays
    fast            the twins of tinynet.fast, on NumPy's arrays
    cuda            the twins on a simulated GPU: its kernels, on the CPU shim of tests/cuda_on_cpu
    plain on cuda   the layers' own lines on a simulated GPU's arrays

A test that takes the fixture `implementation`, or stands under `every_implementation`, runs in each. Whatever it calls
here takes arrays of NumPy's and gives them back.
"""

import contextlib
import inspect
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import settings

import tinynet
from tinynet import gradcheck
from tinynet.backend.device import to_cpu, to_device
from tinynet.layers import Layer, passes


@dataclass(frozen=True)
class Implementation:
    """`examples`: how many hypothesis draws."""

    name: str
    plain: bool
    device: str
    examples: int

    def __str__(self):
        return self.name

    @contextlib.contextmanager
    def running(self, layer):
        """The layer's parameters are on this implementation's device, and its lines or twins run."""
        if not self.plain:
            assert_is_fast(layer)
        with tinynet.plain() if self.plain else contextlib.nullcontext(), self._moved(layer):
            yield

    @contextlib.contextmanager
    def _moved(self, layer):
        if self.device == "cpu":
            yield
            return
        parameters = list(layer.parameters())
        before = [parameter.data for parameter in parameters]
        layer.to(self.device)
        try:
            yield
        finally:
            for parameter, data in zip(parameters, before, strict=True):
                assert np.array_equal(to_cpu(parameter.data), data, equal_nan=True), "a pass changed the parameters"
                parameter.data, parameter.grad = data, to_cpu(parameter.grad)

    def send(self, value):
        """An array there; all else, such as labels, stays."""
        is_input = type(value) is np.ndarray and (value.dtype.kind == "f" or value.ndim > 1)
        return value if self.device == "cpu" or not is_input else to_device(value, self.device)

    def bring(self, value):
        """The array here; all else as it is."""
        return value if self.device == "cpu" or not hasattr(value, "dtype") else to_cpu(value)


def assert_is_fast(layer):
    """No layer that has a twin runs plain."""
    from tinynet.fast import plan, single

    for one in [layer, *(inside for _, inside in layer.named_layers())]:
        assert type(one) not in single.TWINS or plan.has_twin(one), plan.why_plain(one)


PLAIN = Implementation("plain", True, "cpu", 20)
FAST = Implementation("fast", False, "cpu", 40)
CUDA = Implementation("cuda", False, "cuda:0", 5)
PLAIN_ON_CUDA = Implementation("plain on cuda", True, "cuda:0", 2)
ALL = PLAIN, FAST, CUDA, PLAIN_ON_CUDA

everywhere = pytest.mark.usefixtures("implementation")
_current = FAST


def current():
    return _current


@pytest.fixture(params=ALL, ids=str)
def implementation(request):
    """Each of them in turn: what `forward`, `backward` and `checks.forward_backward` run."""
    with using(request.param, request.getfixturevalue):
        yield request.param


@contextlib.contextmanager
def using(one, get_fixture):
    global _current
    if one.device != "cpu":
        get_fixture("simulated_gpu")
    before, _current = _current, one
    try:
        yield one
    finally:
        _current = before


def every_implementation(*decorators, share=1.0):
    """A test under hypothesis's `decorators`, given and example, that runs in every implementation, each with its
    number of examples or a `share` of that."""

    def decorate(body):
        def drawn(one):
            def test(*args, **options):
                body(*args, **options)

            test.__name__, test.__qualname__ = body.__name__, f"{body.__qualname__}[{one}]"
            test.__module__, test.__doc__, test.__signature__ = body.__module__, body.__doc__, inspect.signature(body)
            for decorator in reversed(decorators):
                test = decorator(test)
            return settings(max_examples=max(1, round(share * one.examples)))(test)

        tests = {one: drawn(one) for one in ALL}

        def each(implementation):
            tests[implementation]()

        each.__name__, each.__module__, each.__doc__ = body.__name__, body.__module__, body.__doc__
        return each

    return decorate


def forward(layer, *args):
    """y of one pass."""
    with _current.running(layer):
        return _current.bring(passes.forward(layer, *map(_current.send, args)))


def backward(layer, *dy):
    """dx of one pass."""
    with _current.running(layer):
        return _current.bring(passes.backward(layer, *map(_current.send, dy)))


class Passes(Layer):
    """A layer's passes in the current implementation as a layer of their own, for gradcheck, which calls a layer's own
    lines."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, *args):
        return forward(self.layer, *args)

    def backward(self, dy):
        return backward(self.layer, dy)

    def named_parameters(self, prefix=""):
        return self.layer.named_parameters(prefix)


def gradchecked(layer, x, *args, **options):
    """gradcheck's report: in plain mode of the layer's own lines, else of its passes."""
    return gradcheck(layer if _current is PLAIN else Passes(layer), x, *args, **options)
