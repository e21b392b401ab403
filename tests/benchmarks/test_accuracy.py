"""benchmarks/accuracy.py: when an aim is met, and what its table says. The runs themselves take hours."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "accuracy.py"


@pytest.fixture(scope="module")
def accuracy():
    spec = importlib.util.spec_from_file_location("accuracy", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results(*errors, gigabytes=1.0):
    usual = {"top5_error": 0.1, "epochs": 2, "training_seconds": 10.0, "seconds": 12.0, "gigabytes": gigabytes}
    return [{"top1_error": error, "seed": seed, **usual} for seed, error in enumerate(errors)]


@pytest.mark.parametrize(
    ("name", "found", "missed"),
    [
        ("photos", results(0.5, 0.58), False),  # the mean counts: 0.54
        ("photos", results(0.5, 0.62), True),
        ("photos", results(0.56), True),
        ("paper's net, one epoch", results(0.9), False),  # no aim but the memory
        ("paper's net, one epoch", results(0.9, gigabytes=6.1), True),
    ],
)
def test_an_aim_is_met_by_the_mean_over_the_seeds(accuracy, name, found, missed):
    assert accuracy.missed(accuracy.RUNS[name], found) is missed


def test_the_table_shows_mean_and_spread_and_what_is_chance(accuracy):
    text = accuracy.table({"photos": results(0.5, 0.58), "paper's net, one epoch": results(0.9), "cifar-10": []})
    assert "| photos | ≤ 55% | 54.0% (50.0% to 58.0%) | 10.0% | 2 | 0, 1 | 10 s | 12 s | 1.00 GB |" in text
    assert "| paper's net, one epoch | ends (error: chance) | 90.0% (90.0% to 90.0%) |" in text
    assert "| cifar-10 | ≤ 45% | not measured: no data |" in text
