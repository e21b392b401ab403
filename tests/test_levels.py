"""Numerical tests as each level that this processor can run, in processes of their own: what other machines compute.

The choice is small, so that it fits into every run of the suite: one test of each way to compute that has loops of its
own. Where numba's cache knows a level it takes 3 s of a core, the first time 12 s: numba compiles for each level. All
numerical tests run by `python tests/levels.py LEVEL`, as .ci/run does. The end of pytest's output says what really ran,
and which levels cannot run here.
"""

import subprocess

import levels
import pytest

LAYOUTS = "ops/conv/test_choose.py::test_forward_and_gradients_of_arrays_in_any_layout"
CHOICE = (
    f"{LAYOUTS}[winograd-case0-C order]",
    f"{LAYOUTS}[panels-case2-C order]",
    "ops/test_lrn.py",
    "ops/test_matmul.py::test_every_shape_and_order",
)


@pytest.mark.elsewhere
@pytest.mark.skipif(not levels.X86, reason=levels.why_not("x86-64-v2") or "has levels")
@pytest.mark.parametrize("name", [level for level in levels.NAMES if not levels.why_not(level)])
def test_numerical_tests(name, record_property):
    """Fails, too, where the level did not take effect: numba's code, OpenBLAS's and NumPy's are read back."""
    tests = (str(levels.TESTS / test) for test in CHOICE)
    command = levels.command(name, "-q", "-p", "no:cacheprovider", "--forbid-skips", *tests)
    environment = levels.environment(name)
    environment.pop("PYTEST_ADDOPTS", None)  # with which .ci/run asks for coverage, of which these tests are a part
    done = subprocess.run(
        command, env=environment, cwd=levels.TESTS.parent, capture_output=True, text=True, check=False
    )
    record_property("level", done.stdout.splitlines()[0] if done.stdout else name)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.skipif(not levels.X86, reason=levels.why_not("x86-64-v2") or "has levels")
def test_a_level_that_did_not_take_effect_fails():
    """The level's test in this process, which is of another level: this processor has more than x86-64-v2."""
    command = levels.command("x86-64-v2", "--version")
    environment = {name: value for name, value in levels.environment("own").items() if name not in levels.VARIABLES}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "x86-64-v2: the level did not take effect; numba's processor: expected x86-64-v2, got" in done.stdout


@pytest.mark.parametrize("part", ["numba", "registers", "blas", "numpy"])
def test_each_part_that_is_not_the_levels_is_named(part):
    right = {"numba": "x86-64-v2", "registers": ["xmm"], "blas": ["openblas Nehalem"], "numpy": []}
    right["numpy"] = [name for name in levels.umath().__cpu_dispatch__ if name in levels.LEVELS[0].numpy]
    assert levels.failures("x86-64-v2", right) == []
    wrong = right | {"numba": "znver3", "registers": ["xmm", "ymm"], "blas": ["openblas Zen"], "numpy": ["AVX2"]}
    (failure,) = levels.failures("x86-64-v2", right | {part: wrong[part]})
    assert f"got {wrong[part]}" in failure


def test_levels_that_do_not_exist_or_cannot_run():
    with pytest.raises(SystemExit, match="expected one of own, x86-64-v2, x86-64-v3, x86-64-v4; got 'v2'"):
        levels.main("v2")
    assert levels.why_not("own") == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels.binding, "get_host_cpu_features", lambda: {"avx2": False})
        if levels.X86:
            assert "has no cx16, sahf, popcnt" in levels.why_not("x86-64-v2")
        patch.setattr(levels, "X86", False)
        assert levels.why_not("x86-64-v2").startswith("levels of x86-64 processors; this one is of ")


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ((), "x86-64-v2 x86-64-v3"),
        (("avx512f",), "x86-64-v2"),
        (("avx512f", "fma"), ""),
        (("sse3", "fma", "avx512f"), ""),
    ],
)
def test_levels_below_its_own(missing, expected, monkeypatch, capsys):
    every = {need for level in levels.LEVELS for need in level.needs}
    monkeypatch.setattr(levels, "X86", True)
    monkeypatch.setattr(levels.binding, "get_host_cpu_features", lambda: dict.fromkeys(every - {*missing}, True))
    assert levels.main("--below") == 0
    assert capsys.readouterr().out.strip() == expected


def test_every_numerical_test_is_there():
    assert all((levels.TESTS / test).exists() for test in levels.NUMERICAL)
