"""What a laptop with Windows or macOS would meet, as far as Linux can show it: a Python without POSIX's modules, fork
and signals, processes that are spawned, a screen of code page 1252, and source files with CRLF line ends."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.elsewhere
ROOT = Path(__file__).resolve().parent.parent
POSIX_ONLY = "fcntl", "resource", "pwd", "grp", "termios"
NO_ATTRIBUTES = {
    "os": ("fork", "forkpty", "register_at_fork", "getuid", "geteuid", "killpg"),
    "signal": ("SIGHUP", "SIGSTOP", "SIGUSR1", "SIGALRM", "SIGKILL"),
}
# sitecustomize.py: what Python itself runs before anything else
ELSEWHERE = f"""
import importlib.abc, multiprocessing, os, signal, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {POSIX_ONLY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

for name in {POSIX_ONLY!r}:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
for module, names in {NO_ATTRIBUTES!r}.items():
    for name in names:
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
multiprocessing.set_start_method("spawn")
"""
EVERY_MODULE = """
import importlib, multiprocessing, os, pkgutil, signal, sys
assert not hasattr(os, "fork") and not hasattr(signal, "SIGHUP"), "this is no other system"
assert multiprocessing.get_start_method() == "spawn" and sys.stdout.encoding == "cp1252"
try:
    import fcntl
except ImportError:
    pass
else:
    raise AssertionError("fcntl can be imported")
import tinynet
source = open(tinynet.__file__, "rb").read()
assert b"\\r\\n" in source, "no CRLF"
for module in pkgutil.walk_packages(tinynet.__path__, "tinynet."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(tinynet.__file__)
"""
TINY = "--train-size", "40", "--val-size", "20", "--batch-size", "10", "--lr", "0.001", "--schedule", "constant"


def with_crlf(folder, target):
    for path in folder.rglob("*"):
        if path.suffix in {".py", ".cu", ".cuh", ".json"}:
            copy = target / folder.name / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    """laptop(*arguments, cwd=...): Python there, with tinynet's sources as Windows' git checks them out."""
    there = tmp_path_factory.mktemp("elsewhere")
    for name in ("tinynet", "kernels", "examples"):
        with_crlf(ROOT / name, there)
    (there / "site").mkdir()
    (there / "site" / "sitecustomize.py").write_text(ELSEWHERE, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV_CORE")}
    path = os.pathsep.join([str(there / "site"), str(there)])
    environment |= {"PYTHONPATH": path, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "TINYNET_LAPTOP": str(there)}

    def python(*arguments, cwd):
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, encoding="cp1252", check=False)
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    python.folder = there
    return python


def test_every_module_can_be_imported(laptop, tmp_path):
    assert Path(laptop("-c", EVERY_MODULE, cwd=tmp_path).stdout.strip()).is_relative_to(laptop.folder)


def test_a_run_and_its_resume(laptop, tmp_path):
    program = laptop.folder / "examples" / "train_alexnet.py"
    folder = tmp_path / "räume"  # of which code page 1252 knows the letters
    folder.mkdir()
    once = laptop(program, *TINY, "--epochs", 1, "--out", "run", cwd=folder)
    assert "finished after epoch 1" in once.stdout
    assert once.stderr == ""
    assert {path.name for path in (folder / "run").glob("*.png")} >= {"learning_curves.png", "predictions.png"}
    again = laptop(program, "--resume", "run", "--epochs", 2, cwd=folder)
    assert "resumed in epoch 2" in again.stdout
    laptop(program, *TINY, "--epochs", 2, "--out", "straight", "--quiet", cwd=folder)
    resumed, straight = (load_file(folder / run / "weights.safetensors") for run in ("run", "straight"))
    assert resumed.keys() == straight.keys()
    for name, array in straight.items():
        assert np.array_equal(resumed[name], array), name


def test_names_that_its_screen_cannot_show(laptop, tmp_path):
    done = laptop("-m", "tinynet", "train", *TINY, "--epochs", 1, "--out", "実験", cwd=tmp_path)
    assert "\\u5b9f\\u9a13" in done.stdout
    assert (tmp_path / "実験" / "weights.safetensors").is_file()
