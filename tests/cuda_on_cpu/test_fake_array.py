"""Plain array code on simulated devices: what NumPy computes, with CuPy's refusals, in the order of streams."""

import contextlib
import copy
import sys

import numpy as np
import pytest

from .fake_cupy import FakeCupy
from .fake_names import names

MISSING = "in no order: an event is missing"
A = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8 - 1
B = np.cos(np.arange(24, dtype=np.float32)).reshape(2, 4, 3)
K = np.array([2, 0, 1])
U = np.array([7, 1 << 31, (1 << 32) - 1], np.uint32)
M = A > 0.3

# each with np, the arrays of NumPy's or of a device, and the module that makes arrays
SAME = [
    "-a * 2 + 1 - a / 3",
    "1 - 2 * a",
    "2 / (a + 9)",
    "(a + 9) ** 0.5",
    "2.0 ** a",
    "a // 0.3",
    "a % 0.3",
    "7 % (a + 9)",
    "divmod(a, 0.5)",
    "abs(a)",
    "a @ b",
    "a[0] @ b[0]",
    "np.matmul(a, b)",
    "a.dot(b[0])",
    "np.dot(a[0], b[0])",
    "np.tensordot(a, b, axes=([2], [1]))",
    "np.einsum('nij,njk->nik', a, b)",
    "np.einsum('nij->in', a)",
    "a < 0.5",
    "a == a[0]",
    "0.5 != a",
    "(a > 0) & (a < 1) | ~(a == 0) ^ (a >= 1)",
    "np.logical_and(a > 0, a < 1)",
    "u.astype(np.uint64) * np.uint64(0xD2511F53) >> np.uint64(32)",
    "u * np.uint32(0xCD9E8D57) ^ u << 3 & np.uint32(0xFFFF)",
    "(u >> 8).astype(np.float32) * np.float32(2**-24)",
    "np.maximum(a, 0)",
    "np.minimum(0.25, a)",
    "np.where(a > 0, a, 0.1 * a)",
    "np.where(m, a, -a)",
    "np.exp(a)",
    "np.log(np.sqrt(a + 3))",
    "np.power(a + 9, -0.75)",
    "np.isfinite(a / 0)",
    "np.isnan(a - a)",
    "np.sign(a)",
    "np.float32(2) * a",
    "np.float64(2) < a",
    "a.sum()",
    "a.sum(axis=(0, 2), keepdims=True)",
    "np.sum(a, axis=1)",
    "np.mean(a, axis=0, dtype=np.float64)",
    "a.mean(axis=-1)",
    "a.max(axis=1)",
    "a.min()",
    "np.max(a, axis=(1, 2))",
    "np.argmax(a, axis=1)",
    "a.argmax(axis=1)",
    "a.var(axis=0)",
    "np.any(a > 1)",
    "(a > 1).all(axis=0)",
    "np.cumsum(a, axis=1)",
    "a.round(1).clip(0, 1)",
    "np.clip(a, 0, 1)",
    "np.pad(a, ((0, 0), (1, 2), (3, 0)))",
    "np.pad(a, 1, constant_values=-9)",
    "np.concatenate([a, a], axis=1)",
    "np.stack([a, a + 1], axis=-1)",
    "np.repeat(a, 2, axis=1)",
    "np.split(a, 2, axis=2)",
    "np.take_along_axis(a, np.argmax(a, axis=1, keepdims=True), axis=1)",
    "np.zeros_like(a)",
    "np.zeros_like(a, shape=(2, 5), dtype=np.int32)",
    "np.ones_like(a)",
    "np.full_like(a, 7, shape=4)",
    "np.empty_like(a).shape",
    "np.nonzero(a > 0)",
    "np.linalg.norm(a)",
    "a[k % 2]",
    "a[:, k]",
    "a[:, k, 1:3]",
    "a[1, k, k]",
    "a[m]",
    "a[:, :, a[0, 0] > -0.8]",
    "a[[1, 0]]",
    "a[K % 2]",
    "xp.arange(5, dtype=np.uint32)",
    "xp.arange(3) + xp.ones((2, 3)) * xp.full((2, 1), 4.0)",
    "xp.where(a > 0, xp.exp(a), xp.zeros((2, 3, 4), xp.float32))",
    "xp.asarray([1, 2, 3])",
    "xp.eye(3)",
    "xp.pi + a",
    "xp.linalg.norm(a)",
    "np.add.reduce(a)",
    "np.multiply.outer(a[0, 0], a[0, 1])",
    "len(a) + a.ndim + np.ndim(a) + np.size(a)",
    "np.result_type(a, np.float64(1))",
    "[row.sum() for row in a]",
    "a.astype(np.float64).reshape(4, 6)[::2, ::-1].T",
    "a.copy().ravel()",
    "int(a[0, 0, 0]) + float(a[1, 1, 1]) + a.max().item()",
    "bool((a > 5).any())",
    "f'{a.sum():.3f}'",
]
VIEWS = [
    *(
        "a.reshape(6, 4)",
        "a.T",
        "a.transpose(2, 0, 1)",
        "a[0]",
        "a[..., ::2]",
        "a[None]",
        "a.ravel()",
        "a.swapaxes(0, 2)",
    ),
    *("np.moveaxis(a, 0, 2)", "np.expand_dims(a, (0, 1))", "np.transpose(a)", "np.squeeze(a[:1])", "a[:1].squeeze()"),
    *(
        "np.broadcast_to(a, (5, 2, 3, 4))",
        "np.reshape(a, (24,))",
        "a.view(np.uint32)",
        "a.astype(np.float32, copy=False)",
    ),
    *("np.lib.stride_tricks.sliding_window_view(a, 2, axis=2)", "xp.lib.stride_tricks.as_strided(a, (2, 2), (4, 8))"),
    "np.flip(a, 1)",
]
CHANGES = [
    *(
        "a += 1",
        "a -= a[0]",
        "a *= 2",
        "a /= 3",
        "a //= 2",
        "a %= 2",
        "a **= 2",
        "m &= a > 1",
        "m |= a < 0",
        "m ^= m[0]",
    ),
    *(
        "u <<= 3",
        "u >>= 2",
        "a[:, 1:] += 1",
        "a[0] = a[1]",
        "a[1, 2, 3] = 9",
        "a[1, 2, 3] += 9",
        "a[:, ::2] = 5",
        "a[k % 2] = 3.0",
        "a[:, k] = a[:, :3]",
    ),
    *(
        "a[m] = 0",
        "a[m] += 1",
        "a[m] = np.arange(13)",
        "a[..., 0] -= a[..., 1]",
        "a[:] = A[::-1].copy()",
        "a[...] = True",
    ),
    *(
        "np.add(a, 1, out=a)",
        "np.maximum(a, 0, out=a)",
        "np.multiply(a, 3, out=a, where=m)",
        "np.sum(a, axis=0, out=a[1])",
    ),
    *("np.copyto(a, 7)", "np.copyto(a, a[0], where=m)", "np.add.at(a, (K % 2, K), 1)", "a.fill(3)", "a.sort(axis=1)"),
]
REFUSED = {
    "a + A": (TypeError, "Unsupported type numpy.ndarray"),
    "A + a": (TypeError, "Unsupported type numpy.ndarray"),
    "a + np.array(1.0)": (TypeError, "Unsupported type numpy.ndarray"),
    "a == A": (TypeError, "Unsupported type numpy.ndarray"),
    "A @ b": (TypeError, "Unsupported type numpy.ndarray"),
    "np.add(A, A, out=a)": (TypeError, "Unsupported type numpy.ndarray"),
    "np.add(a, a, out=A)": (TypeError, "Unsupported type numpy.ndarray"),
    "a.__iadd__(A)": (TypeError, "Unsupported type numpy.ndarray"),
    "np.where(m, a, A)": (TypeError, "Unsupported type numpy.ndarray"),
    "np.where(M, a, 0)": (TypeError, "Unsupported type numpy.ndarray"),
    "np.concatenate([a, A])": (TypeError, "Unsupported type numpy.ndarray"),
    "np.einsum('nij,njk', a, B)": (TypeError, "Unsupported type numpy.ndarray"),
    "xp.exp(A)": (TypeError, "Unsupported type numpy.ndarray"),
    "a + None": (TypeError, "."),
    "a == None": (TypeError, "."),
    "a + [1]": (TypeError, "."),
    "np.asarray(a)": (TypeError, "Implicit conversion"),
    "np.array([a])": (TypeError, "Implicit conversion"),
    "a.__setitem__(0, A[0])": (ValueError, "non-scalar numpy.ndarray cannot be used for fill"),
    "a.__setitem__(slice(None), A[:1])": (ValueError, "same shape and dtype"),
    "np.sum(a, where=m)": (TypeError, "sum.. of CuPy: got an unexpected keyword argument 'where'"),
    "a.max(initial=0)": (TypeError, "unexpected keyword argument 'initial'"),
    "np.clip(a, min=0)": (TypeError, "missing a required argument"),
    "np.zeros_like(a, device='cpu')": (TypeError, "unexpected keyword argument 'device'"),
    "a.astype(float, casting='safe')": (TypeError, "not supported yet"),
    "a.item(0)": (TypeError, "argument"),
    "np.subtract.reduce(a)": (NotImplementedError, "not supported yet"),
    "np.logaddexp.at(a, 0, 1)": (NotImplementedError, "not supported yet"),
    "np.block([a])": (TypeError, "no implementation found"),
    "np.spacing(a)": (TypeError, "."),
    "xp.spacing": (AttributeError, "no attribute 'spacing'"),
    "xp.random": (AttributeError, "no attribute 'random'"),
    "xp.no_such_name": (AttributeError, "no attribute 'no_such_name'"),
    "a.no_such_name": (AttributeError, "no_such_name"),
    "a.flags.writeable": (AttributeError, "writeable"),
    "bool(a)": (ValueError, "ambiguous"),
    "range(xp.asarray(3))": (TypeError, "integer"),
    "hash(a)": (TypeError, "unhashable"),
    "u.__iadd__(1.5)": (TypeError, "cannot be cast"),
    "np.add(a, 1, out=a[0])": (ValueError, "Out shape"),
    "a + b": (ValueError, "broadcast"),
    "a.reshape(5, 5)": (ValueError, "reshape"),
    "a[:, :, 4]": (IndexError, "out of bounds"),
}
IN_A_GRAPH = {
    **dict.fromkeys(["bool(s > 0)", "int(s)", "float(s)", "s.item()", "repr(a)", "a.get()"], "D2H transfers"),
    **dict.fromkeys(["a[m]", "a.__setitem__(m, 0)", "np.nonzero(a)", "np.where(m)", "np.unique(a)"], "waiting for"),
    **dict.fromkeys(["a[K % 2]", "a[[0, 1]]", "a.__setitem__(k % 2, 0)", "xp.asarray(A)"], "H2D transfers"),
    **dict.fromkeys(["a @ b", "np.einsum('nij,njk->nik', a, b)", "a.dot(b[0])"], "calling cuBLAS API"),
}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    module = FakeCupy(tmp_path, devices=2)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def arrays(make):
    return {
        "np": np,
        "A": A,
        "B": B,
        "K": K,
        "M": M,
        "a": make(A),
        "b": make(B),
        "k": make(K),
        "u": make(U),
        "m": make(M),
    }


def run(code, where, how=eval):
    with np.errstate(all="ignore"):
        return how(code, where)


def on_device(fake):
    return {"xp": fake, **arrays(fake.asarray)}


def equal(fake, got, wanted):
    if isinstance(wanted, list | tuple):
        assert len(got) == len(wanted)
        return all(equal(fake, one, other) for one, other in zip(got, wanted, strict=True))
    if isinstance(wanted, np.ndarray | np.generic):
        assert type(got) is fake.ndarray
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        return np.array_equal(got.get(), wanted, equal_nan=wanted.dtype.kind == "f")
    assert type(got) is type(wanted)
    return got == wanted


@pytest.mark.parametrize("code", SAME)
def test_computes_what_numpy_does(fake, code):
    host = {"xp": np, **arrays(np.copy)}
    assert equal(fake, run(code, on_device(fake)), run(code, host))


@pytest.mark.parametrize("code", VIEWS)
def test_views_stay_views(fake, code):
    where = on_device(fake)
    allocations, clock = fake.allocations, dict(fake.current_stream().clock)
    view = run(code, where)
    assert (fake.allocations, fake.current_stream().clock) == (allocations, clock)  # no work
    where["a"].fill(7)
    assert view.size
    assert (view.get().view(np.float32) == 7).all()


@pytest.mark.parametrize("code", CHANGES)
def test_changes_what_numpy_changes(fake, code):
    host, device = arrays(np.copy), on_device(fake)
    run(code, host, exec)
    before = {name: array.data.ptr for name, array in device.items() if name in "akum"}
    run(code, device, exec)
    for name, place in before.items():
        assert equal(fake, device[name], host[name])
        assert device[name].data.ptr == place


@pytest.mark.parametrize("code", REFUSED)
def test_what_cupy_refuses(fake, code):
    error, text = REFUSED[code]
    with pytest.raises(error, match=text):
        run(code, on_device(fake))


@pytest.mark.parametrize("code", IN_A_GRAPH)
def test_what_a_recording_stream_refuses(fake, code):
    where = on_device(fake)
    where["s"] = where["a"].sum()
    with recording(fake), pytest.raises(RuntimeError, match=IN_A_GRAPH[code]):
        run(code, where)


@contextlib.contextmanager
def recording(fake):
    stream = fake.cuda.Stream(non_blocking=True)
    ready = fake.cuda.Event()
    ready.record()
    with stream:
        stream.wait_event(ready)
        stream.begin_capture()
        graphs = []
        yield graphs
        graphs.append(stream.end_capture())


def test_a_recording_is_done_when_launched(fake):
    a, k = fake.asarray(A), fake.asarray(K)
    before = a.get()
    with recording(fake) as graphs:
        a += np.where(a > 0, np.exp(a), 0)
        rows = np.take_along_axis(a, np.argmax(a, axis=1, keepdims=True), axis=1) + a[:, k].max()
        a[..., 0] = 2
    assert np.array_equal(a.get(), before)
    fake.cuda.Device().synchronize()
    for _ in range(2):
        graphs[0].launch()
        wanted = before + np.where(before > 0, np.exp(before), np.float32(0))
        assert np.array_equal(rows.get(), wanted.max(axis=1, keepdims=True) + wanted.max())
        wanted[..., 0] = 2
        assert np.array_equal(a.get(), wanted)
        before = wanted


@pytest.mark.parametrize("code", ["bool(s)", "a.max().item()", "a[m]", "np.nonzero(a)", "a.__setitem__(m, 1)"])
def test_what_makes_the_host_wait(fake, code):
    where = on_device(fake)
    where["s"] = where["a"].sum()
    waited = fake.synchronisations
    for quiet in ("np.exp(a).sum() > 1", "a[:, k] @ b", "np.where(m, a, 0)", "a.copy()"):
        run(quiet, where)
    assert fake.synchronisations == waited
    run(code, where)
    assert fake.synchronisations > waited


READS = [
    "a + 1",
    "np.exp(a)",
    "np.sum(a)",
    "a[k % 2]",
    "np.concatenate([b.transpose(0, 2, 1), a])",
    "np.where(m, 1, a)",
    "b @ a",
]
WRITES = [
    "a.__iadd__(1)",
    "np.exp(b.reshape(2, 3, 4), out=a)",
    "a.__setitem__(k % 2, 1)",
    "a.__setitem__(m, 1)",
    "np.copyto(a, 1)",
]


@pytest.mark.parametrize("code", READS + WRITES)
def test_the_order_of_streams_is_checked(fake, code):
    where = on_device(fake)
    ready = fake.cuda.Event()
    ready.record()
    if code in READS:
        where["a"].fill(1)
    else:
        where["a"].copy()
    later = fake.cuda.Event()
    later.record()
    with fake.cuda.Stream(non_blocking=True) as stream:
        stream.wait_event(ready)
        with pytest.raises(AssertionError, match=MISSING):
            run(code, where)
        stream.wait_event(later)
        run(code, where)


@pytest.mark.parametrize(
    "code", ["a + 1", "np.sum(a)", "a[k % 2]", "a.__setitem__(k % 2, 1)", "np.exp(a, out=a)", "a.copy()"]
)
def test_works_on_the_current_device_alone(fake, code):
    where = on_device(fake)
    with fake.cuda.Device(1):
        with pytest.raises(ValueError, match="an operation on device 0 while the current one is 1"):
            run(code, where)
        other = on_device(fake)
        other["a"] = where["a"]
        with pytest.raises(ValueError, match="device"):
            run("b.reshape(2, 3, 4) + a", other)
        assert where["a"][0].T.device.id == 0  # a view is no work


def test_results_of_elementwise_functions_are_c_contiguous(fake):
    a = fake.asarray(A).transpose(1, 2, 0)
    assert (a + 1).flags.c_contiguous
    assert np.exp(a).flags["C_CONTIGUOUS"]
    assert a.copy().flags.c_contiguous
    assert a.copy(order="K").strides == a.strides
    assert a.astype(np.float64).transpose(2, 0, 1).flags.c_contiguous


def test_which_copies_are_strided(fake):
    a, b = fake.asarray(A), fake.asarray(A + 1)
    a[...] = b
    a[1] = b[0]
    assert fake.strided_copies == 0
    a.T[...] = b.T  # CuPy looks no further
    assert fake.strided_copies == 1
    a[:, :, 0] = 1  # a fill
    a[0] += 1
    assert fake.strided_copies == 1


def test_copies_are_made_on_its_device(fake):
    with fake.cuda.Device(1):
        a = fake.asarray(A)
    twin = copy.deepcopy(a)
    assert twin.device.id == 1
    assert twin.data.ptr != a.data.ptr
    assert np.array_equal(twin.get(), A)


def test_has_no_name_that_cupy_lacks(fake):
    """But for what a test may look at: the counters and switches of the stand-in, and these of its arrays."""
    assert len(names()) > 400
    assert names()["sum"] == "(a, axis=None, dtype=None, out=None, keepdims=None)"
    missing = [name for name in dir(np) if not name.startswith("_") and name not in names()]
    assert "block" in missing
    assert not [name for name in missing if name not in ("test", "lib", "linalg") and hasattr(fake, name)]
    own = {"memory", "number", "chunk", "use", "check_device", "fake"}
    public = {name for name in dir(fake.asarray(A)) if not name.startswith("_")}
    assert public - names("ndarray").keys() == own
    operators = {name for name in vars(fake.ndarray.__mro__[1]) if name.startswith("__")}
    assert operators - names("ndarray").keys() <= {"__dict__", "__weakref__", "__or__"}
    for kind in ("Device", "Event", "Stream", "MemoryPool"):
        assert names(f"cuda.{kind}")


def conv_relu_loss(x, weight, labels):
    """(loss, dx, dweight) of a convolution of 2 x 2 with ReLU, global maximum and softmax, as a lesson writes them."""
    (N, C, H, W), (O, _, KH, KW) = x.shape, weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (KH, KW), axis=(2, 3))
    columns = windows.transpose(1, 4, 5, 0, 2, 3).reshape(C * KH * KW, -1)
    y = np.moveaxis((weight.reshape(O, -1) @ columns).reshape(O, N, H, W), 0, 1)
    relu = np.maximum(y, 0).reshape(N, O, H * W)
    place = np.argmax(relu, axis=2, keepdims=True)
    logits = np.take_along_axis(relu, place, axis=2)[:, :, 0]
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = shifted / shifted.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(N), labels]).mean()

    p[np.arange(N), labels] -= 1
    dflat = np.zeros_like(relu)
    np.put_along_axis(dflat, place, (p / N)[:, :, None], axis=2)
    dy = np.where(y > 0, dflat.reshape(y.shape), 0)
    dy_rows = np.moveaxis(dy, 1, 0).reshape(O, -1)
    dweight = (dy_rows @ columns.T).reshape(weight.shape)
    dcolumns = (weight.reshape(O, -1).T @ dy_rows).reshape(C, KH, KW, N, H, W)
    dpadded = np.zeros_like(padded)
    for i in range(KH):
        for j in range(KW):
            dpadded[:, :, i : i + H, j : j + W] += dcolumns[:, i, j].swapaxes(0, 1)
    return loss, dpadded[:, :, 1:, :-1], dweight


def test_a_net_in_plain_lines(fake):
    x = np.sin(np.arange(4 * 3 * 5 * 6)).reshape(4, 3, 5, 6)
    weight, labels = np.cos(np.arange(2 * 3 * 2 * 2)).reshape(2, 3, 2, 2), np.array([0, 1, 1, 0])
    waited = fake.synchronisations
    found = conv_relu_loss(fake.asarray(x), fake.asarray(weight), labels)
    assert fake.synchronisations == waited
    for got, wanted in zip(found, conv_relu_loss(x, weight, labels), strict=True):
        np.testing.assert_allclose(got.get(), wanted, rtol=1e-12, atol=1e-14)
        assert np.abs(wanted).max() > 1e-3


def test_arrays_without_elements(fake):
    empty = fake.zeros((0, 3), np.float32)
    assert np.maximum(empty, 0).shape == (0, 3)
    assert empty.reshape(3, 0).T.shape == (0, 3)
    assert bool(np.isfinite(empty).all())
