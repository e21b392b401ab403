"""A new layer is one file, its export line and one row in the table of examples. Everything else takes it as it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYER = '''
import numpy as np

from tinynet.layers.layer import Layer
from tinynet.layers.parameter import Parameter


class PReLU(Layer):
    """y = x where x > 0, else weight * x; x, y of any shape, weight (1,) is learnt (He et al. 2015, eq. 1)."""

    def __init__(self, slope: float = 0.25):
        self.slope = slope
        self.weight = Parameter(np.full(1, slope, np.float32))

    def forward(self, x):
        self.check_input(x)
        self.saved = (x,)
        return np.where(x > 0, x, self.weight.of_type(x.dtype) * x)

    def backward(self, dy):
        (x,) = self.saved
        self.check_dy(dy, x.shape)
        self.weight.grad += np.where(x > 0, 0, dy * x).sum()
        return np.where(x > 0, dy, self.weight.of_type(x.dtype) * dy)

    def output_shape(self, shape):
        return shape

    def options(self):
        return f"{self.slope:g}"
'''
EXPORT = "layers/__init__.py", "from tinynet.layers.relu import ReLU\n", "from tinynet.layers.prelu import PReLU\n"
NAMED = "layers/__init__.py", '    "ReLU",\n', '    "PReLU",\n'
IMPORT = "inspect/examples.py", "from tinynet.layers.relu import ReLU\n", "from tinynet.layers.prelu import PReLU\n"
ROW = (
    "inspect/examples.py",
    "    ReLU: (\n",
    "    PReLU: (Example(lambda new: new(0.3), (2, 3, 4, 5)), Example(lambda new: new(), (3, 7))),\n",
)

# run in the changed copy, in an empty folder
USE = """
import numpy as np, tinynet
from tinynet import data, plots
from tinynet.layers import Conv2d, Flatten, Linear, PReLU, Sequential
from tinynet.optim import SGD

PARTS = (60, "train"), (20, "validation")

def trainer(epochs, out):
    net = Sequential({"conv": Conv2d(3, 4, 3, stride=3), "prelu": PReLU(), "flat": Flatten(), "fc": Linear(324, 10)})
    train, val = (data.Loader(data.shapes(n, 28, split=part), 20, seed=1) for n, part in PARTS)
    return tinynet.Trainer(net, SGD(net.parameters(), lr=0.02), train, val, epochs=epochs, out=out, quiet=True)

straight = trainer(3, "straight")
straight.fit()
trainer(1, "stopped").fit()
goes_on = trainer(3, "stopped")
goes_on.fit(resume="stopped")
for name, array in straight.model.state_dict().items():
    assert np.array_equal(array, goes_on.model.state_dict()[name]), name
net = straight.model
assert net["prelu"].weight.data[0] != np.float32(0.25), "it does not learn"
(row,) = [line for line in str(tinynet.summary(net, (1, 3, 28, 28))).splitlines() if line.startswith("prelu")]
assert row.split()[1] == "PReLU" and row.split()[-1] == "plain", row
assert "prelu: PReLU(0.25)" in repr(net)
picture = data.shapes(1, 28, split="validation").images[0]
maps = tinynet.inspect.features.activations(net, (picture[None] / 255).astype(np.float32), ["conv", "prelu"])
plots.save_figure(plots.activation_maps(maps, picture), "maps.png")
assert (maps["prelu"] == np.where(maps["conv"] > 0, maps["conv"], net["prelu"].weight.data * maps["conv"])).all()
print("fine", *straight.records[-1:])
"""

# a file of tests in the copy
ON_A_GPU = """
import numpy as np
import pytest
from gpu.runs import outcome, trainer
from tinynet.layers import Conv2d, Flatten, Linear, PReLU, Sequential

def net():
    return Sequential({"conv": Conv2d(2, 4, 3), "prelu": PReLU(), "flat": Flatten(), "fc": Linear(100, 3)})

@pytest.mark.parametrize("graph", [False, True])
def test_prelu_trains_there(simulated_gpu, graph):
    here, there = trainer("cpu", model=net()), trainer("cuda:0", model=net(), graph=graph)
    here.fit()
    there.fit()
    assert there.model["prelu"].weight.data.device.id == 0
    for name, array in here.model.state_dict().items():
        np.testing.assert_allclose(there.model.state_dict()[name], array, rtol=1e-4, atol=1e-6)
"""


def insert(package, name, before, line):
    file = package / name
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1
    file.write_text(text.replace(before, line + before), encoding="utf-8")


def run(*command, cwd, path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV_CORE", "PYTEST_"))}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
    command = [sys.executable, *command]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.elsewhere
def test_one_file_and_one_row(tmp_path, kernels_folder):
    copy, empty = tmp_path / "copy", tmp_path / "empty"
    for folder in ("tinynet", "kernels", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns(".hypothesis"))
    shutil.copy(ROOT / "setup.cfg", copy)
    empty.mkdir()
    (copy / "tinynet" / "layers" / "prelu.py").write_text(LAYER, encoding="utf-8")
    for change in (EXPORT, NAMED, IMPORT, ROW):
        insert(copy / "tinynet", *change)
    assert "\nfine" in run("-c", USE, cwd=empty, path=[copy])
    assert (empty / "maps.png").stat().st_size > 1000
    assert run("-m", "tinynet", "check", "prelu", cwd=empty, path=[copy]).startswith("PReLU is right")
    (copy / "tests" / "gpu" / "test_prelu.py").write_text(ON_A_GPU, encoding="utf-8")
    files = "tests/layers/test_every_layer.py", "tests/gpu/test_prelu.py"
    out = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "PReLU or prelu", *files, cwd=copy, path=[copy])
    passed = int(out.splitlines()[-1].split(" passed")[0])
    assert passed > 30, out
    assert "skipped" not in out
