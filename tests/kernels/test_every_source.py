"""What is easily forgotten when a CUDA source is added."""

from pathlib import Path

import pytest

import tinynet
from tinynet.backend import launch

HERE = Path(__file__).parent


@pytest.mark.parametrize("stem", launch.kernel_stems())
def test_has_a_cpu_twin_and_each_names_the_other(stem):
    package = Path(tinynet.__file__).parent
    (twin,) = (path for path in package.glob(f"ops/**/{stem}.py") if "gpu" not in path.relative_to(package).parts)
    assert f"kernels/{stem}.cu" in twin.read_text(encoding="utf-8")
    name = twin.relative_to(package.parent).as_posix()
    assert name in launch.kernel_path(stem).read_text(encoding="utf-8")


@pytest.mark.parametrize("stem", launch.kernel_stems())
def test_has_tests_that_compile_it_for_every_gpu(stem):
    tests = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py") if path != Path(__file__))
    assert f'check_source("{stem}"' in tests or f'launch.kernel_path("{stem}")' in tests
