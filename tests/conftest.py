"""What all tests share."""

import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest
from cuda_on_cpu import why_not
from hypothesis import HealthCheck, settings
from implementations import implementation  # noqa: F401 - a fixture
from simulated import _fresh, _simulated, simulated_gpu  # noqa: F401 - fixtures

from tinynet.backend.threads import get_num_threads, set_num_threads
from tinynet.cli import main as tinynet_main

# a fixed choice of examples where a failure must be repeatable by pushing again; a fresh one at everyone's desk
settings.register_profile(
    "tinynet",
    max_examples=50,
    deadline=None,
    derandomize="CI" in os.environ,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tinynet")

PROGRAM = Path(__file__).resolve().parents[1] / "examples" / "train_alexnet.py"
LONGEST = "test_sanitized.py", "test_benchmark.py", "test_package.py"  # files of tests that take half a minute each
BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--forbid-skips", action="store_true", help="count every skipped test as failed, as .ci/run does")
    parser.addoption("--on-gpu", action="store_true", help="tests/gpu: those that make sense on a real GPU, with CuPy")


def pytest_collection_modifyitems(items):
    """The longest first: then no process of several is left with one at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and item.config.getoption("--forbid-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which --forbid-skips does not allow: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if report.skipped and collector.config.getoption("--forbid-skips"):  # a whole file, by importorskip at its top
        report.outcome = "failed"
        report.longrepr = f"skipped, which --forbid-skips does not allow: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter):
    """What tests/test_levels.py ran as, and which levels this processor cannot be; how long the layers' files are."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lessons = [value for report in reports for name, value in report.user_properties if name == "lesson"]
    if lessons:
        terminalreporter.section("the layers' own files", "-")
        for line in sorted(lessons):
            terminalreporter.write_line(line)
    lines = [value for report in reports for name, value in report.user_properties if name == "level"]
    if lines:
        import levels  # which needs llvmlite

        missing = [(name, reason) for name in levels.NAMES if (reason := levels.why_not(name))]
        terminalreporter.section("levels of the processor", "-")
        for line in (*lines, *(f"{name}: cannot run here: {reason}" for name, reason in missing)):
            terminalreporter.write_line(line)


@pytest.fixture
def _threads_as_before():
    before = get_num_threads()
    yield
    set_num_threads(before)


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data sets: the environment variable TINYNET_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("TINYNET_DATA", BESIDE))
    if not folder.is_dir():
        pytest.skip(f"real data sets: no folder {folder}; the environment variable TINYNET_DATA can name one")
    return folder


@pytest.fixture(scope="session")
def kernels_folder(tmp_path_factory):
    """Where .cu files are compiled for the CPU, for all processes of this test run; a skip where they cannot be."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kernels"
    folder.mkdir(exist_ok=True)
    if reason := why_not():
        pytest.skip(reason)
    return folder


@pytest.fixture
def program(monkeypatch, tmp_path):
    """examples/train_alexnet.py with these arguments, in this process, in an empty folder. Gives its exit code."""
    spec = importlib.util.spec_from_file_location("train_alexnet", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["train_alexnet.py", *map(str, arguments)])
        return module.main()

    return main


@pytest.fixture
def tinynet_program(monkeypatch, tmp_path):
    """The command `tinynet` with these arguments, in this process, in an empty folder. Gives its exit code."""
    monkeypatch.chdir(tmp_path)

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["tinynet", *map(str, arguments)])
        return tinynet_main()

    return main


@pytest.fixture
def quick(program, monkeypatch):
    """As `program`, without the pictures of a run, which take longer than a small run itself."""
    monkeypatch.setattr("tinynet.plots.RunPictures.__call__", lambda *args: None)
    return program
