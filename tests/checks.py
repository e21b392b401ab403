"""What several tests need: what holds for every layer, what equal runs have in common, a disk that is full."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import implementations
import numpy as np
import pytest
from bounds import random_sum, roundings

import tinynet
from tinynet.io.checkpoints import load_metadata, load_weights
from tinynet.layers import passes
from tinynet.training.provenance import without_provenance

FEW = 32  # more roundings than the formula of any layer that adds up no more than a handful of terms


def assert_within(got, expected, bound):
    """No entry further from `expected` than `bound`; NaN and infinity where they are expected, and nowhere else."""
    got, expected, bound = np.broadcast_arrays(got, expected, bound)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    same = (got == expected) | np.isnan(expected)
    difference = np.abs(np.where(same, 0, got.astype(float)) - np.where(same, 0, expected))
    wrong = ~(difference <= bound)
    if wrong.any():
        worst = np.unravel_index(np.argmax(np.where(wrong, difference / np.maximum(bound, 5e-324), 0)), got.shape)
        off = f"expected {expected[worst]} within {bound[worst]:.3g}, got {got[worst]}, off by {difference[worst]:.3g}"
        where = tuple(map(int, worst))
        raise AssertionError(f"{wrong.sum()} of {got.size} entries are beyond the bound; the worst, at {where}: {off}")


def assert_close(got, expected, dtype=np.float64, terms=FEW, size=1.0):
    """Equal but for so many roundings in `dtype`, and as many in float64 of what is expected.

    They are relative to each entry or, where terms cancel, to the largest of the entries and `size`, about as large
    as what was added up.
    """
    largest = max(size, float(np.abs(expected).max())) if np.size(expected) else 0
    assert_within(got, expected, (roundings(terms, dtype) + roundings(terms)) * largest)


def assert_sums(got, expected, terms, squares, dtype=np.float64):
    """Equal but for the rounding of sums of so many random products; `squares`: the sums of the products' squares."""
    assert_within(got, expected, (random_sum(terms, dtype) + random_sum(terms)) * np.sqrt(squares))


def same_bits(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def weights_left(path):
    """(metadata, bits of every array, in the file's order) of a weights file: what two equal runs have in common. Only
    the version, date and command line that they began with are left out."""
    bits = [(name, array.dtype, array.shape, array.tobytes()) for name, array in load_weights(path).items()]
    return without_provenance(load_metadata(path)), bits


def forward_backward(layer, x, make_dy):
    """y, dx, {name: gradient} of one forward and backward, after all the promises that no layer may break, in the
    current implementation (tests/implementations.py).

    x and dy keep every bit, y too while backward runs; y, dx and their shapes are as announced; backward adds to .grad.
    """
    one = implementations.current()
    x_before = x.copy(order="K")
    with one.running(layer):
        there = one.send(x)
        y = passes.forward(layer, there)
        assert same_bits(one.bring(there), x_before), "forward changed x"
        assert y.dtype == x.dtype
        assert y.shape == layer.output_shape(x.shape)

        dy = one.send(make_dy(y.shape))
        dy_before, y_before = one.bring(dy).copy(order="K"), one.bring(y).copy(order="K")
        layer.zero_grad()
        dx = passes.backward(layer, dy)
        assert dx is not None, "backward returned nothing"
        once = {name: one.bring(parameter.grad).copy() for name, parameter in layer.named_parameters()}
        dx_before = one.bring(dx).copy(order="K")

        again = one.bring(passes.backward(layer, dy))
        assert same_bits(one.bring(dx), dx_before), "a second backward changed the first one's dx"
        assert_close(again, dx_before, x.dtype)
        for name, parameter in layer.named_parameters():
            assert parameter.grad.dtype == parameter.data.dtype
            assert_close(one.bring(parameter.grad), 2 * once[name], x.dtype)

        assert same_bits(one.bring(there), x_before), "backward changed x"
        assert same_bits(one.bring(dy), dy_before), "backward changed dy"
        assert same_bits(one.bring(y), y_before), "backward changed y"
        assert dx.dtype == x.dtype
        assert dx.shape == x.shape
        return one.bring(y), one.bring(dx), once


def error_text(call, kind):
    """The text of the error of exactly this `kind` that `call` raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    error = caught.value
    assert type(error) is kind, f"expected {kind.__name__}, got {type(error).__name__}: {error}"
    return str(error.args[0]) if kind is KeyError else str(error)


def run_python(script, **environment):
    """What another Python process prints that runs `script` against the same tinynet."""
    path = os.pathsep.join([str(Path(tinynet.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,  # a deadlock is an error, not a wait for ever
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def disk_of(size):
    """No file may grow past `size` bytes: the nearest thing to a full disk that a test can make."""
    resource = pytest.importorskip("resource", reason="file size limits are POSIX only")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def using(layer, **settings):
    """The layer, set for its fast twin: using(Conv2d(...), algorithm="winograd", precision="tf32")."""
    for name, value in settings.items():
        setattr(layer, name, value)
    return layer
