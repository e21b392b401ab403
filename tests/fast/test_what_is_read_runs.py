"""The lines of a layer's file are what a training pass runs, or what runs is what they say: whoever changes them, in
whatever way, changes the next pass."""

import contextlib
import copy
import functools
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import MethodType

import numpy as np
import pytest
from strategies import numbers

import tinynet
from tinynet import layers
from tinynet.errors import RunsPlainWarning
from tinynet.fast import identity, plan, single
from tinynet.layers import LRN, Conv2d, Dropout, Flatten, Linear, MaxPool, ReLU, Sequential
from tinynet.losses import SoftmaxCE
from tinynet.optim import SGD
from tinynet.parallel import EachTower, Exchange, FirstTower, Split
from tinynet.training.step import TrainingStep

PACKAGE = Path(tinynet.__file__).parent
KINDS = Conv2d, ReLU, LRN, MaxPool, Flatten, Dropout, Linear
NAMES = {Conv2d: "conv", ReLU: "relu", LRN: "lrn", MaxPool: "pool", Flatten: "flat", Dropout: "drop", Linear: "fc1"}
DIRECTIONS = "forward", "backward"
PLACES = ("cpu",), ("cpu", "cpu"), ("cuda:0",), ("cuda:0", "cuda:1"), ("cuda:0", "graph")
places = pytest.mark.parametrize("place", PLACES, ids=",".join)


@pytest.fixture(autouse=True)
def _devices(request):
    place = request.node.callspec.params.get("place", ()) if hasattr(request.node, "callspec") else ()
    if any(name.startswith("cuda") for name in place):
        request.getfixturevalue("simulated_gpu")


def make(place, kinds=None):
    """(a training step of a small net there, the net): with these classes in the place of tinynet's own."""
    kinds = {**{kind: kind for kind in KINDS}, **(kinds or {})}
    net = Sequential(
        {
            "conv": kinds[Conv2d](2, 6, 3, padding=1),
            "relu": kinds[ReLU](),
            "lrn": kinds[LRN](3, alpha=0.5, groups=2),
            "pool": kinds[MaxPool](3, 2),
            "flat": kinds[Flatten](),
            "drop": kinds[Dropout](0.4),
            "fc1": kinds[Linear](54, 8),
            "relu1": kinds[ReLU](),
            "fc2": Linear(8, 3),
        }
    )
    devices = [name for name in place if name != "graph"]
    if len(devices) > 1:
        towers = EachTower("conv", "relu", "lrn", "pool", "flat", "drop"), Exchange(), EachTower("fc1", "relu1")
        net = Split(net, devices, *towers, Exchange(), FirstTower("fc2"))
    elif devices != ["cpu"]:
        net.to(devices[0])
    return TrainingStep(net, SoftmaxCE(), SGD(net.parameters(), lr=0.1), graph="graph" in place), net


def run(step, number=0):
    x = numbers((4, 2, 7, 7), np.float32, seed=number)
    return step(x, np.arange(4) % 3, number).read()


def counting(seen, name, own, spoil=1):
    """A method like `own`, which notes its calls, and gives `spoil` times what that gives, its gradients too."""

    def method(self, *args):
        seen.append(name)
        result = own(self, *args)
        for parameter in self.parameters() if spoil != 1 else ():
            parameter.grad *= spoil
        return result * spoil

    return method


def weights(net):
    return {name: array.tobytes() for name, array in net.state_dict().items()}


@places
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_method_of_a_class_that_is_replaced_counts_from_the_next_pass_on(place, direction, monkeypatch):
    """Once a graph is recorded, too; and no longer when it is taken away."""
    step, net = make(place)
    for number in range(3 if "graph" in place else 1):
        run(step, number)
    assert (step._recorded is not None) == ("graph" in place)
    for kind in KINDS:
        seen = []
        with monkeypatch.context() as patch:
            patch.setattr(kind, direction, counting(seen, kind, getattr(kind, direction)))
            with pytest.warns(RunsPlainWarning) if kind is not Flatten else contextlib.nullcontext():
                plan._told.clear()
                run(step, 3)
        assert seen, f"{kind.__name__}.{direction}"
        count = len(seen)
        run(step, 4)
        assert len(seen) == count, f"{kind.__name__}.{direction} runs though it was taken away"


@places
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_method_of_one_layer_that_is_replaced_counts(place, direction):
    """In a split net it becomes a method of each part."""
    step, net = make(place)
    run(step)
    for name in NAMES.values():
        seen, layer = [], net[name]
        method = counting(seen, name, getattr(type(layer), direction))
        setattr(layer, direction, MethodType(method, layer))
        run(step, 1)
        assert seen == [name] * len([device for device in place if device != "graph"])
        delattr(layer, direction)
        run(step, 2)
        assert len(seen) == len([device for device in place if device != "graph"]), "runs though it was taken away"


@places
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_method_of_a_subclass_counts(place, direction):
    seen = []
    kinds = {
        kind: type(f"My{kind.__name__}", (kind,), {direction: counting(seen, kind, getattr(kind, direction))})
        for kind in KINDS
    }
    step, _ = make(place, kinds)
    for number in range(3):
        seen.clear()
        run(step, number)
        assert set(seen) == set(KINDS)


@places
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_what_is_spoilt_is_what_trains(place, kind, direction, monkeypatch):
    """Not only is it called: the weights go where it sends them, and they are those of the plain lines spoilt so."""
    results = []
    for plain in (False, True):
        with tinynet.plain(plain), monkeypatch.context() as patch:
            own, seen = getattr(kind, direction), []
            patch.setattr(kind, direction, counting(seen, kind, own, spoil=1 / 4))
            step, net = make(place)
            run(step)
            results.append(net.state_dict())
    step, net = make(place)
    run(step)
    right = net.state_dict()
    for name, array in results[0].items():
        np.testing.assert_allclose(array, results[1][name], rtol=1e-4, atol=1e-6)
    assert any(np.abs(results[0][name] - right[name]).max() > 1e-5 for name in right)


@pytest.mark.parametrize("place", [("cpu",), ("cuda:0",), ("cuda:0", "graph")], ids=",".join)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_loss_that_is_replaced_counts(place, direction, monkeypatch):
    step, _ = make(place)
    for number in range(3):
        run(step, number)
    seen, own = [], getattr(SoftmaxCE, direction)

    def method(self, *args):
        seen.append(direction)
        return own(self, *args)

    monkeypatch.setattr(SoftmaxCE, direction, method)
    run(step, 3)
    assert seen == [direction]


@pytest.mark.parametrize("place", [("cpu",), ("cpu", "cpu"), ("cuda:0",), ("cuda:0", "graph")], ids=",".join)
def test_an_update_that_is_replaced_counts(place, monkeypatch):
    step, net = make(place)
    for number in range(3):
        run(step, number)
    seen, own, before = [], SGD.update, weights(net)
    monkeypatch.setattr(SGD, "update", lambda self, *args: seen.append(own))  # changes nothing
    run(step, 3)
    assert seen
    assert weights(net) == before


def test_a_patch_between_forward_and_backward_counts():
    """What a fast forward kept is what the lines of backward read."""
    x = numbers((4, 2, 7, 7), np.float32)
    for kind in KINDS:
        _, net = make(("cpu",))
        _, other = make(("cpu",))
        expected = [net(x), net.backward(numbers((4, 3), np.float32)), *(p.grad for p in net.parameters())]
        y = other.at_step(0)(x)
        own = kind.backward
        with pytest.MonkeyPatch.context() as patch:
            seen = []
            patch.setattr(kind, "backward", counting(seen, kind, own))
            got = [y, other.backward(numbers((4, 3), np.float32)), *(p.grad for p in other.parameters())]
        assert seen
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_lines_of_backward_go_on_from_a_fast_forward(training):
    """In evaluation mode too, where MaxPool's twin notes no places."""
    for make_layer, shape in [(lambda: MaxPool(3, 2, 1), (9, 2, 7, 6)), (lambda: Dropout(0.3), (4, 5)), (ReLU, (3, 4))]:
        layer, x = make_layer().train(training), numbers(shape, np.float32)
        y = layer(x)
        dy = numbers(y.shape, np.float32, seed=1)
        by_lines = layer.backward(dy)
        np.testing.assert_allclose(layers.passes.backward(layer, dy), by_lines, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("module", "name", "kinds"),
    [
        ("tinynet.layers.conv2d", "im2col", {Conv2d}),
        ("tinynet.layers.lrn", "channel_window_sum", {LRN}),
        ("tinynet.layers.windows", "padded", {Conv2d}),
        ("tinynet.layers.dropout", "bits", {Dropout}),
    ],
)
def test_a_helper_that_is_replaced_counts(module, name, kinds, monkeypatch):
    """Where the layer's file has it, and where a helper's file has it."""
    seen, own = [], getattr(sys.modules[module], name)

    @functools.wraps(own)
    def helper(*args, **options):
        seen.append(name)
        return own(*args, **options)

    step, net = make(("cpu",))
    run(step)
    monkeypatch.setattr(sys.modules[module], name, helper)
    run(step, 1)
    assert seen
    for layer in net:
        assert (type(layer) in kinds) <= bool(plan.why_plain(layer)), layer


def test_a_helper_that_was_replaced_before_the_first_pass_counts(tmp_path):
    """The twin's table must not take the replacement for the original."""
    program = """
        import functools
        import numpy as np
        from tinynet.layers import windows, conv2d
        own, seen = windows.im2col, []
        @functools.wraps(own)
        def mine(*args):
            seen.append(1)
            return own(*args)
        conv2d.im2col = mine
        conv2d.Conv2d(1, 1, 3)(np.ones((1, 1, 4, 4)))
        assert seen
    """
    python(program, PACKAGE.parent)


# the files themselves


def python(program, *path, check=True):
    """Run the program with these folders in front of the path; gives what it prints."""
    lines = program.strip("\n").split("\n")
    indent = len(lines[0]) - len(lines[0].lstrip())
    code = f"import sys; sys.path[:0] = {[str(folder) for folder in path]!r}\n" + "\n".join(x[indent:] for x in lines)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, result.stderr
    return result.stdout


def copied(folder):
    """A copy of the package, without what was compiled."""
    shutil.copytree(PACKAGE, folder / "tinynet", ignore=shutil.ignore_patterns("__pycache__", "kernels"))
    return folder / "tinynet"


FILES = {
    "layers/conv2d.py": "layers.Conv2d(2, 3, 3), (2, 2, 5, 4)",
    "layers/dropout.py": "layers.Dropout(0.4), (2, 5)",
    "layers/flatten.py": "layers.Flatten(), (2, 3, 2)",
    "layers/linear.py": "layers.Linear(5, 3), (2, 5)",
    "layers/lrn.py": "layers.LRN(3, 0.5), (2, 4, 3, 3)",
    "layers/max_pool.py": "layers.MaxPool(2), (2, 3, 4, 4)",
    "layers/relu.py": "layers.ReLU(), (2, 5)",
}
SEE = """
import builtins, warnings
builtins.seen = []
import numpy as np, tinynet
from tinynet import layers
assert tinynet.__file__.startswith({folder!r}), tinynet.__file__
for layer, shape in [{cases}]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = layers.Sequential(dict(one=layer))
        y = net(np.ones(shape, np.float32))
        net.backward(np.ones(y.shape, np.float32))
        print(type(layer).__name__, *builtins.seen, len(caught), layers.passes.how(layer, shape), sep="|")
        builtins.seen.clear()
"""
SPLIT = """
net = tinynet.models.alexnet_mini(image_size=28, devices=("cpu", "cpu"))
y = net(np.ones((2, 3, 28, 28), np.float32))
net.backward(np.ones(y.shape, np.float32))
print(len(builtins.seen))
"""


def looks(text, direction):
    """The source with a line at the head of this method that says that it runs."""
    at = re.search(rf"    def {direction}\(self.*\):\n", text).end()
    return f"{text[:at]}        __import__('builtins').seen.append('{direction}')\n{text[at:]}"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_edited_file_is_what_runs(direction, tmp_path):
    """Every layer's file, all at once: each of them runs as edited, and each but Flatten says so, once."""
    package = copied(tmp_path)
    for name in FILES:
        file = package / name
        file.write_text(looks(file.read_text(encoding="utf-8"), direction), encoding="utf-8")
    program = SEE.format(folder=str(tmp_path), cases=", ".join(f"({case})" for case in FILES.values())) + SPLIT
    *lines, on_two_devices = [line.split("|") for line in python(program, tmp_path).splitlines()]
    assert on_two_devices == [str(2 * 22 + 1)]  # each of two towers has its part of all layers, and the first one fc8
    assert [line[0] for line in lines] == ["Conv2d", "Dropout", "Flatten", "Linear", "LRN", "MaxPool", "ReLU"]
    for kind, seen, warned, how in lines:
        assert seen == direction
        assert warned == ("0" if kind == "Flatten" else "1")
        assert how == "plain" if kind == "Flatten" else "changed since the twin was checked against it" in how


def test_one_edited_file_leaves_the_others_fast(tmp_path):
    package = copied(tmp_path)
    file = package / "layers" / "relu.py"
    file.write_text(looks(file.read_text(encoding="utf-8"), "backward"), encoding="utf-8")
    cases = f"({FILES['layers/relu.py']}), ({FILES['layers/dropout.py']})"
    relu, dropout = python(SEE.format(folder=str(tmp_path), cases=cases), tmp_path).splitlines()
    assert relu == "ReLU|backward|1|plain: tinynet/layers/relu.py changed since the twin was checked against it"
    assert dropout == "Dropout|0|fast"


def test_comments_docstrings_and_line_ends_are_not_lines(tmp_path):
    """As a checkout on Windows has them, and as a reader's notes leave them."""
    package = copied(tmp_path)
    for name in (*FILES, "layers/windows.py", "random.py", "checks.py"):
        file = package / name
        text = file.read_text(encoding="utf-8").replace('    """', '    """A note. ', 1)
        text = text.replace("\n", "   \n").replace(
            "        self.check_input", "\n        # a note\n        self.check_input"
        )
        file.write_bytes(text.replace("\n", "\r\n").encode())
    cases = f"({FILES['layers/relu.py']}), ({FILES['layers/dropout.py']})"
    program = SEE.format(folder=str(tmp_path), cases=cases)
    assert python(program, tmp_path).splitlines() == ["ReLU|0|fast", "Dropout|0|fast"]
    check = "from tinynet.fast import identity, plan; print([k for k in plan.KNOWN if identity.of(k).changed()])"
    assert python(check, tmp_path).strip() == "[]"


def test_without_source_the_version_is_trusted(tmp_path):
    package = copied(tmp_path)
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "-b", str(package / "layers"), str(package / "random.py")],
        check=True,
    )
    for file in (*(package / "layers").glob("*.py"), package / "random.py"):
        file.unlink()
    out = python(SEE.format(folder=str(tmp_path), cases=f"({FILES['layers/relu.py']})"), tmp_path)
    assert out.strip() == "ReLU|0|fast, its source was not there to look at"


def test_a_convolution_without_source(tmp_path):
    """Files of bytecode alone, as some programs are packed."""
    package = copied(tmp_path)
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-b", str(package)], check=True)
    for file in package.rglob("*.py"):
        file.unlink()
    out = python(SEE.format(folder=str(tmp_path), cases=f"({FILES['layers/conv2d.py']})"), tmp_path)
    assert re.fullmatch(r"Conv2d\|0\|fast: \w+, its source was not there to look at", out.strip()), out


def test_nothing_of_this_checkout_runs_plain():
    assert {kind.__name__: identity.of(kind).changed() for kind in plan.KNOWN if identity.of(kind).changed()} == {}
    assert set(single.TWINS) <= set(plan.KNOWN)


def test_said_once():
    class Mine(ReLU):
        pass

    plan._told.clear()
    net = Sequential(Mine(), Mine())
    with pytest.warns(RunsPlainWarning, match="Mine '0' runs as it is written.*subclass Mine of ReLU") as told:
        assert [net(np.ones((2, 3))).sum() for _ in range(3)] == [6, 6, 6]
    assert len(told) == 1


# what else may be put in the place of something, or was found to be possible


def test_code_that_is_put_into_a_function_counts(monkeypatch):
    """As an editor of a notebook does when a file was edited."""

    def spoilt(self, dy):
        return 0 * dy

    step, net = make(("cpu",))
    run(step)
    monkeypatch.setattr(ReLU.backward.__wrapped__, "__code__", spoilt.__code__)
    assert plan.why_plain(net["relu"]) == "the code of backward was replaced"
    assert not net["relu"].backward(np.ones_like(net["relu"].saved[0])).any()
    assert not layers.passes.backward(net["relu"], np.ones_like(net["relu"].saved[0])).any()


@pytest.mark.parametrize(
    ("module", "name", "value", "kind"),
    [
        ("tinynet.layers.relu", "np", "a stand-in", ReLU),
        ("tinynet.random", "WORD", 0xFFFF, Dropout),
        ("tinynet.layers.dropout", "round", lambda value: 0, Dropout),
        ("tinynet.layers.windows", "min", lambda *values: 0, LRN),
        ("tinynet.layers.conv2d", "im2col", functools.partial(layers.im2col), Conv2d),
        ("tinynet.layers.lrn", "channel_window_sum", np.add, LRN),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_name_that_means_something_else_counts(module, name, value, kind, first, monkeypatch):
    """Whether it was put there before the class was first looked at or later; and no longer once it is gone."""
    layer = next(one for one in make(("cpu",))[1] if type(one) is kind)
    if first:
        identity._identities.pop(kind, None)
    else:
        assert not plan.why_plain(layer)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[module], name, value, raising=False)
        if first and not callable(value):
            return  # a constant says nothing of where it is from; the digest knows the file's
        assert plan.why_plain(layer) == f"{name} was replaced"
    assert not plan.why_plain(layer)


@pytest.mark.parametrize("kind", [Conv2d, Linear])
def test_a_parameter_that_is_another_counts(kind, monkeypatch):
    layer = next(one for one in make(("cpu",))[1] if type(one) is kind)
    assert not plan.why_plain(layer)
    with monkeypatch.context() as patch:
        patch.setattr(layers.Parameter, "of_type", lambda self, dtype: 0 * self.data)
        assert plan.why_plain(layer) == "of_type was replaced"

    class Clipped(layers.Parameter):
        pass

    layer.weight = Clipped(layer.weight.data)
    assert plan.why_plain(layer) == "its weight is of the class Clipped"


def test_random_numbers_follow_their_lines(monkeypatch):
    before = tinynet.random.bits(9, 1, 2)
    monkeypatch.setattr("tinynet.random.philox4x32", lambda *words: (words[0] * 0 + 7,) * 4)
    assert (tinynet.random.bits(9, 1, 2) == 7).all()
    monkeypatch.undo()
    assert np.array_equal(tinynet.random.bits(9, 1, 2), before)


def test_a_step_of_an_optimiser_of_ones_own_is_not_replayed(simulated_gpu):
    class Mine(SGD):
        def step(self):
            seen.append(1)
            super().step()

    seen, (step, net) = [], make(("cuda:0", "graph"))
    run(step)
    run(step, 1)
    assert step._recorded is not None
    step.optimizer = Mine(net.parameters(), lr=0.1)
    for number in range(3):
        run(step, number)
    assert len(seen) == 3


def test_a_tuple_is_one_argument():
    class Add(layers.Layer):
        def forward(self, xs):
            return xs[0] + xs[1]

    x = np.ones((2, 3))
    assert np.array_equal(Add()((x, x)), x + x)


def test_a_subclass_with_parameters_of_its_own_is_not_cut():
    class Scaled(ReLU):
        def __init__(self):
            self.scale = layers.Parameter(np.ones(1, np.float32))

    with pytest.raises(ValueError, match="expected a layer that can be cut into 2 towers"):
        make(("cpu", "cpu"), {ReLU: Scaled})


def test_half_saved_files_are_no_source(tmp_path):
    package = copied(tmp_path)
    program = f"""
        import numpy as np, tinynet
        from tinynet import layers
        open({str(package / "layers" / "relu.py")!r}, "a").write('def broken(:\\n    \"\"\"')
        layers.ReLU()(np.ones((2, 3)))
        print(layers.passes.how(layers.ReLU(), (2, 3)))
    """
    assert "relu.py changed since" in python(program, tmp_path)


@pytest.mark.usefixtures("simulated_gpu")
def test_a_dropout_on_a_gpu_can_be_copied():
    drop = Dropout(0.4)
    x = tinynet.to_device(np.ones((4, 6), np.float32), "cuda:1")
    drop(x)
    again = pickle.loads(pickle.dumps(copy.deepcopy(drop)))
    dy = tinynet.to_device(np.ones((4, 6), np.float32), "cuda:1")
    assert np.array_equal(tinynet.to_cpu(again.backward(dy)), tinynet.to_cpu(drop.backward(dy)))


@pytest.mark.usefixtures("simulated_gpu")
@pytest.mark.parametrize("loss_type", [np.float32, np.float64])
def test_a_loss_whose_lines_are_others_trains_on_a_gpu(loss_type, monkeypatch):
    own = SoftmaxCE.forward

    def forward(self, logits, labels):
        return own(self, logits, labels).astype(loss_type)

    monkeypatch.setattr(SoftmaxCE, "forward", forward)
    step, net = make(("cuda:0",))
    assert np.isfinite(run(step)[0])


@pytest.mark.usefixtures("simulated_gpu")
def test_lines_of_a_loss_run_where_its_logits_are():
    loss = SoftmaxCE()
    with tinynet.plain():
        loss(tinynet.to_device(numbers((4, 3), np.float32), "cuda:1"), [0, 1, 2, 0])
        twice = loss.backward(2.0)
    assert np.allclose(tinynet.to_cpu(twice), 2 * tinynet.to_cpu(layers.passes.backward(loss)))


# a file of tests in the edited copy
TRAIN_THERE = """
import builtins

import numpy as np
import pytest
from gpu.runs import trainer

@pytest.mark.parametrize("graph", [False, True])
def test_the_edited_lines_train(simulated_gpu, graph):
    builtins.seen = []
    trainer("cuda:0", epochs=1, graph=graph).fit()
    steps, layers = 4, 10
    assert builtins.seen.count("backward") == steps * layers
    assert builtins.seen.count("forward") > steps * layers  # the validation, too
    assert simulated_gpu.graph_launches == 0
"""


@pytest.mark.elsewhere
def test_an_edited_file_is_what_runs_on_a_gpu(tmp_path, kernels_folder):
    """With a graph asked for, and without."""
    package = copied(tmp_path)
    for folder in ("kernels", "tests"):
        shutil.copytree(PACKAGE.parent / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        file = package / name
        text = looks(looks(file.read_text(encoding="utf-8"), "forward"), "backward")
        file.write_text(text, encoding="utf-8")
    (tmp_path / "tests" / "gpu" / "test_edited.py").write_text(TRAIN_THERE, encoding="utf-8")
    shutil.copy(PACKAGE.parent / "setup.cfg", tmp_path)
    own = {key: value for key, value in os.environ.items() if not key.startswith(("COV_CORE", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu/test_edited.py"]
    environment = own | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1].startswith("2 passed"), done.stdout[-3000:]
