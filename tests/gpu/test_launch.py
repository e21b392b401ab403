"""What the launcher refuses before a kernel could read a wrong number, and what is said of a GPU that is not fit."""

import sys

import numpy as np
import pytest
from checks import error_text
from parallel.nets import relative, rounding
from strategies import numbers

from gpu.runs import counted
from tinynet.backend import device
from tinynet.backend import launch as launcher
from tinynet.backend.device import checked_device, to_cpu, to_device
from tinynet.backend.launch import launch, signature
from tinynet.errors import DeviceError, DeviceMemoryError
from tinynet.layers import Conv2d, Dropout, Linear, ReLU, Sequential
from tinynet.models import alexnet_mini
from tinynet.optim import SGD


def there(array, where="cuda:0"):
    return to_device(array, where)


def add_bias(**changes):
    """A launch that is right but for `changes`; y += bias."""
    args = {"y": there(numbers((3, 5), np.float32)), "bias": there(numbers((3,), np.float32, seed=1)), "relu": 0}
    launch("elementwise", "add_bias<float>", (1, 1), (32,), **args | changes)


@pytest.mark.usefixtures("gpu")
def test_sizes_are_taken_from_the_arrays():
    y, bias = numbers((3, 5), np.float32), numbers((3,), np.float32, seed=1)
    result = there(y)
    add_bias(y=result)
    assert np.array_equal(to_cpu(result), y + bias[:, None])


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"bias": np.float64}, TypeError, "add_bias<float>: bias: expected an array of float32, got float64"),
        ({"bias": (4,)}, ValueError, r"add_bias<float>: bias: expected the shape (O) = (3,), got (4,)"),
        ({"bias": "cpu"}, TypeError, "expected all arrays on one GPU, got {'y': 'cuda:0', 'bias': 'cpu'}"),
        ({"bias": "cuda:1"}, TypeError, "expected all arrays on one GPU, got {'y': 'cuda:0', 'bias': 'cuda:1'}"),
        ({"bias": None}, TypeError, "add_bias<float>: expected an array bias (O), got None"),
        ({"bias": "view"}, ValueError, "add_bias<float>: bias: expected a C-contiguous array, got one of shape (3,)"),
        ({"bias": 3.0}, TypeError, "expected a NumPy array, got float"),
        ({"relu": 0.5}, TypeError, "add_bias<float>: relu: expected a whole number, got 0.5"),
        ({"relu": 1 << 31}, ValueError, "add_bias<float>: relu: 2147483648 does not fit int32"),
        ({"J": 6}, ValueError, "add_bias<float>: y: expected the shape (O, J) = (3, 6), got (3, 5)"),
        ({"rely": 1}, TypeError, "add_bias<float>: no parameters ['rely']; it has ['y', 'bias', 'O', 'J', 'relu']"),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_an_argument_that_does_not_fit_is_refused(changes, kind, message, gpu):
    made = {
        np.float64: lambda: there(numbers((3,))),
        (4,): lambda: there(numbers((4,), np.float32)),
        "cpu": lambda: numbers((3,), np.float32),
        "cuda:1": lambda: there(numbers((3,), np.float32), "cuda:1"),
        "view": lambda: there(numbers((6,), np.float32))[::2],
    }
    changes = {name: made[value]() if value in made else value for name, value in changes.items()}
    there(numbers((3,)))  # the device is tried out by now
    launches = counted(gpu, "launches")
    assert message in error_text(lambda: add_bias(**changes), kind)
    assert counted(gpu, "launches") == launches


@pytest.mark.usefixtures("gpu")
def test_a_number_that_is_missing():
    args = {"y": there(numbers((3, 5), np.float32)), "bias": there(numbers((3,), np.float32))}
    call = lambda **more: launch("elementwise", "add_bias<float>", (1,), (32,), **args, **more)  # noqa: E731
    assert "add_bias<float>: relu: expected a number of int32, got none" in error_text(call, TypeError)
    del args["bias"]
    assert "add_bias<float>: expected an array bias (O)" in error_text(lambda: call(relu=0), TypeError)


def test_an_unknown_kernel():
    assert "elementwise.cu: no kernel add" in error_text(lambda: signature("elementwise", "add<float>"), LookupError)
    message = "elementwise.cu: add_bias takes the template arguments <T>, got add_bias"
    assert message in error_text(lambda: signature("elementwise", "add_bias"), LookupError)


@pytest.mark.parametrize("stem", launcher.kernel_stems())
def test_every_signature_can_be_read(stem):
    from cuda_on_cpu import kernel_names

    for expression in kernel_names(launcher.kernel_path(stem)):
        parameters = signature(stem, expression)
        assert parameters
        for parameter in parameters:
            assert not parameter.pointer or parameter.shape, f"{expression}: {parameter.name} says no shape"


def test_a_changed_header_is_another_program(gpu, monkeypatch):
    """CuPy's cache on disk knows the source and the options, not what the source includes."""
    seen = []
    compile_ = gpu.RawModule
    monkeypatch.setattr(gpu, "RawModule", lambda **given: seen.append(given["options"]) or compile_(**given))
    add_bias()
    headers = type(launcher.kernel_folder()).read_bytes
    monkeypatch.setattr(type(launcher.kernel_folder()), "read_bytes", lambda path: headers(path) + b"// changed")
    add_bias()
    assert len(seen) == 1  # compiled once a process and device
    launcher._compiled.cache_clear()
    add_bias()
    assert len(seen) == 2
    assert seen[0] != seen[1]


# --- a GPU that is not there, or not fit ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "0", "", None, 0])
def test_an_unknown_device(name):
    assert "expected a device" in error_text(lambda: checked_device(name), ValueError)


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    device._try_out.cache_clear()
    message = error_text(lambda: Linear(2, 3).to("cuda:0"), DeviceError)
    assert "needs CuPy" in message
    assert "pip install 'cupy-cuda12x[ctk]>=14.2', or 'cupy-cuda13x[ctk]>=14.2' for CUDA 13" in message


def test_without_a_driver(simulated_gpu, monkeypatch):
    def fails():
        raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")

    monkeypatch.setattr(simulated_gpu.cuda.runtime, "getDeviceCount", fails)
    message = error_text(lambda: Linear(2, 3).to("cuda"), DeviceError)
    assert "no GPU can be reached: cudaErrorInsufficientDriver" in message
    assert "nvidia-smi" in message


@pytest.mark.usefixtures("simulated_gpu")
def test_a_device_beyond_the_last():
    message = error_text(lambda: checked_device("cuda:2"), DeviceError)
    assert message == "cuda:2: no such GPU; this machine has cuda:0, cuda:1"


def test_without_nvrtc(simulated_gpu, monkeypatch):
    def fails(source, name):
        raise RuntimeError("Failed to find the library libnvrtc.so.12")

    monkeypatch.setattr(simulated_gpu, "RawKernel", fails)
    message = error_text(lambda: checked_device("cuda:0"), DeviceError)
    assert "libnvrtc.so.12" in message
    assert "pip install" in message


def test_cublas_that_is_missing(simulated_gpu, monkeypatch):
    def missing(self):
        raise ImportError("libcublasLt.so.12: cannot open shared object file")

    monkeypatch.setattr(simulated_gpu.cuda.Device, "cublas_handle", property(missing))
    message = error_text(lambda: checked_device("cuda:1"), DeviceError)
    assert message.startswith(
        "cuda:1: cuBLAS, which multiplies matrices, cannot be used: libcublasLt.so.12: cannot open"
    )
    assert "pip install 'cupy-cuda12x[ctk]>=14.2'" in message


def test_a_gpu_that_is_too_old(simulated_gpu, monkeypatch):
    monkeypatch.setattr(simulated_gpu.cuda.Device, "compute_capability", "61")
    message = error_text(lambda: checked_device("cuda:0"), DeviceError)
    assert "compute capability 61" in message
    assert "need 70" in message


@pytest.mark.usefixtures("gpu")
def test_an_update_of_arrays_that_do_not_fit():
    parameter = Linear(3, 2).to("cuda:0").weight
    optimizer = SGD([parameter])
    parameter.grad = there(numbers((2, 2), np.float32))
    assert "expected gradients and velocities of their parameters' shapes" in error_text(optimizer.step, ValueError)
    parameter.grad = there(numbers((2, 3)))
    assert "expected all arrays of one dtype" in error_text(optimizer.step, TypeError)


def test_a_gpu_that_computes_wrongly(simulated_gpu, monkeypatch):
    monkeypatch.setattr(simulated_gpu, "RawKernel", lambda source, name: lambda grid, block, args: None)
    assert "gave wrong numbers" in error_text(lambda: checked_device("cuda:0"), DeviceError)


def test_no_memory_leaves_the_model_where_it_was(gpu):
    model = Sequential(Linear(10, 10), Linear(10, 1000))
    before = model.state_dict()
    gpu.memory = 20_000
    message = error_text(lambda: model.to("cuda:0"), DeviceMemoryError)
    assert "cuda:0 is out of memory for an array of shape (1000, 10), float32" in message
    assert "smaller batch" in message
    assert model.device == "cpu"
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())
    assert isinstance(DeviceMemoryError(), MemoryError)  # what a program catches that knows no GPU


def test_arrays_and_model_must_be_in_one_place(other_gpu):
    layer = Conv2d(2, 3, 3).to(other_gpu)
    message = error_text(lambda: layer(numbers((1, 2, 5, 5), np.float32)), ValueError)
    assert f"Conv2d: expected x on {other_gpu}, where the layer's parameters are, got one on cpu" in message
    if other_gpu != "cuda:0":
        message = error_text(lambda: layer(there(numbers((1, 2, 5, 5), np.float32))), ValueError)
        assert "got one on cuda:0" in message


# --- a whole net ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("gpu")
def test_a_number_stays_a_number():
    moved = to_device(np.array(3.0), "cuda")
    assert moved.shape == ()
    assert to_cpu(moved) == 3


@pytest.mark.parametrize("order", ["C", "F", "innermost"])
def test_an_array_goes_and_comes_back_as_it_was(order, other_gpu):
    x = numbers((2, 3, 4, 5), np.float32)
    x = np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0) if order == "innermost" else x.copy(order)
    moved = to_device(to_device(x, "cuda:0"), other_gpu)
    assert moved.strides == x.strides
    back = to_cpu(moved)
    assert np.array_equal(back, x)
    assert back.strides == x.strides
    assert to_device(x, "cpu") is x


@pytest.mark.parametrize("order", ["C", "innermost"])
def test_arrays_of_one_order_are_copied_as_they_lie(gpu, order):
    x = numbers((2, 3, 4, 5), np.float32)
    x = np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0) if order == "innermost" else x
    target, source = to_device(np.zeros_like(x), "cuda:0"), to_device(x, "cuda:0")
    strided = counted(gpu, "strided_copies")
    device.assign(target, source)
    assert counted(gpu, "strided_copies") == strided
    assert np.array_equal(to_cpu(target), x)
    device.assign(target[:, 1:], 2 * x[:, 1:])  # a part, from the host
    device.assign(target[1], source[0].transpose(0, 2, 1).copy().transpose(0, 2, 1))  # another order
    x[:, 1:] *= 2
    x[1] = to_cpu(source)[0]
    assert np.array_equal(to_cpu(target), x)


def test_a_net_learns_on_a_gpu_as_on_the_cpu_and_moves_between_them(other_gpu):
    """Three steps; before the third, both models change places, and the optimiser's state follows."""
    x, labels = numbers((4, 3, 16, 16), np.float32), np.array([0, 3, 1, 2])
    from tinynet.losses import SoftmaxCE

    def net():
        layers = Conv2d(3, 8, 5, padding=2), ReLU(), Dropout(0.3), Linear(8 * 256, 4)
        from tinynet.layers import Flatten

        return Sequential(*layers[:2], Flatten(), *layers[2:])

    def steps(places):
        model, loss, losses = net(), SoftmaxCE(), []
        optimizer = SGD(model.parameters(), lr=0.01)
        for place in places:
            model.to(place)
            optimizer.zero_grad()
            losses.append(float(loss(model(to_device(x, place)), labels)))
            model.backward(loss.backward())
            optimizer.step()
        return losses, model.state_dict(), optimizer.state_dict()

    on_cpu, moved = steps(["cpu"] * 3), steps(["cuda:0", other_gpu, "cpu"])
    # three steps, each with the errors of the ones before: relative to the largest number of each array
    allowed = 3 * rounding(net(), x.shape, np.float32, logits=on_cpu[0])[1]
    assert relative(np.array(moved[0]), np.array(on_cpu[0])) < allowed
    for name, value in on_cpu[1].items():
        assert relative(moved[1][name], value) < allowed, name
    for got, expected in zip(moved[2]["velocity"], on_cpu[2]["velocity"], strict=True):
        assert relative(got, expected) < allowed


def test_a_steady_step_asks_for_nothing_but_its_loss(gpu):
    """No array comes back to the host in a training step but what `float(loss)` waits for."""
    from tinynet.losses import SoftmaxCE

    model, loss = alexnet_mini(4, 1, 28).to("cuda:0"), SoftmaxCE()
    optimizer = SGD(model.parameters())
    x, labels = to_device(numbers((2, 1, 28, 28), np.float32), "cuda:0"), np.array([1, 3])
    before = counted(gpu, "synchronisations")
    value = loss(model(x), labels)
    model.backward(loss.backward())
    optimizer.step()
    assert counted(gpu, "synchronisations") == before
    assert 0 < float(value) < 10
