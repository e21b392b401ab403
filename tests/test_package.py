"""What users install: the wheel and the sdist, each in a fresh environment, hold the library, every kernel file and the
program."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.elsewhere
ROOT = Path(__file__).resolve().parent.parent

# run in the fresh environment, in an empty folder: imports every module, finds every kernel, takes one step
TRY = """
import importlib, pkgutil, sys
import numpy as np, tinynet, tinynet.backend.launch
assert "site-packages" in tinynet.__file__, tinynet.__file__
for module in pkgutil.walk_packages(tinynet.__path__, "tinynet."):
    importlib.import_module(module.name)
assert "cupy" not in sys.modules
for stem in sys.argv[1:]:
    assert "__global__" in tinynet.backend.launch.kernel_path(stem).read_text(encoding="utf-8"), stem
net = tinynet.models.alexnet_mini(image_size=28)
loss = tinynet.losses.SoftmaxCE()
first = loss(net(np.ones((2, 3, 28, 28), np.float32)), np.array([1, 2]))
assert net.backward(loss.backward()).shape == (2, 3, 28, 28)
from tinynet.fast import identity, plan
for kind in plan.KNOWN:
    assert not identity.of(kind).changed() and not identity.of(kind).trusted, (kind, identity.of(kind).changed())
print("fine", first)
"""


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    assert "RunsPlainWarning" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture
def built(tmp_path):
    """The wheel's and the sdist's path; a machine that cannot reach a package index skips."""
    download = "-m", "pip", "download", "--no-deps", "--quiet", "-d", str(tmp_path / "probe"), "hatchling"
    probe = subprocess.run([sys.executable, *download], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no package index can be reached to build with: {probe.stderr.strip().splitlines()[-1]}")
    run(sys.executable, "-m", "build", "--outdir", tmp_path / "dist", ROOT)
    return [next((tmp_path / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz")]


def test_installed_packages_are_whole(built, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)  # it may lead to this checkout
    environment = tmp_path / "an environment é"
    venv.create(environment)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stems = [path.stem for path in (ROOT / "kernels").glob("*.cu")]
    assert stems
    (tmp_path / "elsewhere").mkdir()
    for package, options in zip(built, [(), ("--force-reinstall", "--no-deps")], strict=True):
        run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile", *options, package)
        output = run(python, "-W", "error", "-c", TRY, *stems, cwd=tmp_path / "elsewhere")
        assert output.startswith("fine")
        if package.suffix == ".whl":
            try_the_program(environment, python, tmp_path / "empty")


def try_the_program(environment, python, folder):
    """A tiny job in an empty folder: by the script, by -m, and by the example copied alone; with a safe path too."""
    script = environment / ("Scripts/tinynet.exe" if os.name == "nt" else "bin/tinynet")
    folder.mkdir()
    shutil.copy(ROOT / "examples" / "train_alexnet.py", folder)
    tiny = "--train-size", 20, "--val-size", 10, "--batch-size", 10, "--image-size", 28, "--epochs", 1, "--quiet"
    starts = {
        "script": [script, "train"],
        "file": [python, "train_alexnet.py"],
        "m": [python, "-m", "tinynet", "train"],
    }
    for name, words in starts.items():
        for safe in ("1",) if name == "m" else ("", "1"):
            options = *tiny, "--out", f"{name}{safe}"
            output = run(*words, *options, cwd=folder, env=os.environ | {"PYTHONSAFEPATH": safe})
            assert output.startswith("finished after epoch 1"), output
    assert run(script, "--version", cwd=folder).startswith("tinynet ")
    assert "finished" in run(script, "compare", "script", "file1", "m1", cwd=folder)
