"""What stands around the GPU benchmark's timings: processes, turns, towers, sanitizers, tables."""

import math

import pytest

from gpu.tiny_benchmark import BENCHMARKS, tiny


def test_medians_by_turns(module):
    time, calls = module("gpu_time"), []
    made = {name: time.Call(lambda name=name: calls.append(name), lambda: None) for name in "ab"}
    times = iter([9.0, 9.0, 9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 8.0, 6.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "seconds", lambda call, count: call() or next(times))
        assert time.alternate(made, 3, lambda: calls.append(".")) == {"a": 3.0, "b": 4.0}
    assert "".join(calls) == ".a.b" * 5


def test_towers_where_they_can_be_made(simulated_gpu, module, monkeypatch):
    """On this tinynet or one that is to come: a model which takes `devices` is timed, the split beside the whole."""
    devices = module("gpu_devices")
    monkeypatch.setattr(simulated_gpu.cuda.runtime, "deviceSynchronize", lambda: None, raising=False)
    made = []

    def alexnet(preset="paper", num_classes=10, devices=None):
        made.append(devices)
        return tiny().to(devices[0]) if devices else tiny()

    monkeypatch.setattr(devices.models, "alexnet", alexnet)
    assert devices.can_split()
    rows = devices.compare(2, [["cuda:0"], ["cuda:0", "cuda:0"], ["cuda:0", "cuda:1"]], size=11, classes=10)
    assert made == [None, ("cuda:0", "cuda:0"), ("cuda:0", "cuda:1")]
    assert [row["devices"] for row in rows] == ["cuda:0", "cuda:0,cuda:0", "cuda:0,cuda:1"]
    assert rows[0]["speed_up"] == 1
    assert all(math.isclose(row["speed_up"], rows[0]["s"] / row["s"]) for row in rows)
    monkeypatch.setattr(devices.models, "alexnet", lambda preset: tiny())
    assert not devices.can_split()


def test_a_worker_process_that_hangs_or_dies_is_replaced(module, monkeypatch, tmp_path):
    runner, peers = module("gpu_runner"), module("peers")
    script = tmp_path / "worker_gpu.py"
    script.write_text(
        "import json, os, sys, time\n"
        "for line in sys.stdin:\n"
        "    verb = json.loads(line)['verb']\n"
        "    {'hang': lambda: time.sleep(600), 'die': lambda: os._exit(3)}.get(verb, lambda: None)()\n"
        "    print(json.dumps({'result': verb} if verb == 'fine' else {'error': 'bad'}), flush=True)\n"
    )
    monkeypatch.setattr(peers, "__file__", str(tmp_path / "peers.py"))
    worker = runner.Process()
    try:
        for verb, limit, text in (("hang", 1, "no end within 1 s"), ("die", 60, "exit code 3"), ("odd", 60, "bad")):
            with pytest.raises(peers.BenchmarkError, match=text):
                worker.ask(verb, limit)
            assert worker.ask("fine", 60) == "fine"
    finally:
        worker.close()


def test_the_tests_of_the_device_are_run_in_a_process(module):
    suite = module("gpu_suite")
    chosen = ("-k", "test_an_unknown_device and gpu", "--collect-only")
    found = suite.device_tests(300, chosen)
    assert not found["passed"]  # all of those are left out with --on-gpu
    assert "deselected" in found["summary"]
    assert suite.device_tests(0.01)["summary"] == "no end within 0 s"


def test_compute_sanitizer_is_asked_and_believed(module, monkeypatch, tmp_path):
    suite = module("gpu_suite")
    found = suite.sanitized("memcheck", "cuda:0", 60)
    assert (found["passed"], found["summary"]) == (None, "not run: no compute-sanitizer here")
    tool = tmp_path / "compute-sanitizer"
    tool.write_text('#!/bin/sh\necho "$@" >&2\necho "========= ERROR SUMMARY: 2 errors"\nexit 86\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = suite.sanitized("memcheck", "cuda:0", 60)
    assert (found["passed"], found["summary"]) == (False, "ERROR SUMMARY: 2 errors")
    assert "--tool memcheck --error-exitcode 86" in found["output"]
    assert "every_kernel.py cuda:0" in found["output"]
    # some virtual machines refuse it: no verdict on the kernels
    tool.write_text(
        '#!/bin/sh\necho "========= Error: Device not supported. Please refer to the documentation"\nexit 1\n'
    )
    found = suite.sanitized("memcheck", "cuda:0", 60)
    assert (found["passed"], found["summary"]) == (None, "not run: exit code 1 and no summary")
    assert "Device not supported" in found["output"]


def test_every_kernel_runs(simulated_gpu, monkeypatch, capfd):
    from gpu import cases, every_kernel

    monkeypatch.setattr(simulated_gpu.cuda, "set_allocator", lambda allocator: None, raising=False)
    monkeypatch.setattr(simulated_gpu.cuda.runtime, "deviceSynchronize", lambda: None, raising=False)
    monkeypatch.setattr(every_kernel, "LAYERS", {name: cases.LAYERS[name] for name in ("relu", "pool")})
    monkeypatch.setattr(every_kernel, "COARSE", {})
    every_kernel.main("cuda:0")
    assert capfd.readouterr().out.split() == ["relu", "pool"]
    assert simulated_gpu.launches > 8


def test_every_kernel_that_the_gpu_has(simulated_gpu, monkeypatch, capfd):
    """What an older GPU has not is said and left out."""
    from gpu import cases, every_kernel

    monkeypatch.setattr(simulated_gpu.cuda.Device, "compute_capability", "75")
    monkeypatch.setattr(simulated_gpu.cuda, "set_allocator", lambda allocator: None, raising=False)
    monkeypatch.setattr(simulated_gpu.cuda.runtime, "deviceSynchronize", lambda: None, raising=False)
    monkeypatch.setattr(every_kernel, "LAYERS", {"relu": cases.LAYERS["relu"]})
    every_kernel.main("cuda:0")
    assert capfd.readouterr().out.count('not run: cuda:0: precision "') == 2  # in float32; float64 it has


def test_the_bandwidth_is_measured_without_the_hosts_memory(simulated_gpu, module, monkeypatch):
    sent, asarray = [], simulated_gpu.asarray
    monkeypatch.setattr(simulated_gpu, "asarray", lambda values: sent.append(values.size) or asarray(values))
    copy, count = module("gpu_time").copy_call("cuda:0", 5000)
    copy()
    assert count == 8 * 5000
    assert max(sent) == module("gpu_nets").BLOCK < 5000


def test_the_tables_of_a_made_up_gpu(module, tmp_path):
    report = module("gpu_report")
    about = {"net": "paper", "batch_size": 128, "precision": "tf32", "layer": "step", "direction": "step"}
    rows = [
        {**about, "who": "tinynet", "s": 0.002, "flops": 4e11, "floor_s": 0.0018, "peak_bytes": 2.5e9},
        {**about, "who": "TF32", "s": 0.004, "flops": 4e11, "floor_s": 0.0018, "peak_bytes": 3.5e9},
        {**about, "who": "default", "s": 0.005, "flops": 4e11, "floor_s": 0.0018, "peak_bytes": 3.5e9},
        {**about, "layer": "relu1", "direction": "forward", "who": "tinynet", "s": 1e-5, "flops": 0, "floor_s": None},
    ]
    checks = [{**about, "layer": "conv1", "errors": {"y": 3e-4, "dbias": 2.0}, "wrong": ["dbias"]}]
    record = {"gpu": "Some GPU (TM) 1", "versions": {"cupy": "14.2"}, "seed": 7, "repeat": 3, "times": rows}
    record |= {"checks": checks, "tests": {"summary": "9 passed"}, "sanitizer": {"memcheck": {"summary": "0 errors"}}}
    record |= {"devices": [{"devices": "cuda:0,cuda:1", "batch_size": 128, "s": 0.001, "speed_up": 1.75}]}
    record |= {"ceilings": {"bandwidth": 4.3e12, "tf32": 4e14}, "left_out": ["two things"], "failed": []}
    assert report.write(tmp_path, record).name == "gpu-Some-GPU-TM-1.json"
    (tmp_path / "RESULTS.md").write_text("# Results\n\nkept\n")
    report.write_tables(tmp_path)
    report.write_tables(tmp_path)
    text = (tmp_path / "RESULTS.md").read_text("utf-8")
    assert text.startswith("# Results\n\nkept\n")
    assert text.count("## GPU: Some GPU (TM) 1") == 1
    best = "| paper | 128 | tf32 | tinynet | 2.000 | 4.000 | TF32 | 0.50 | 200.0 | 90% | 2.50 | 3.50 |"
    lines = best, "| relu1 | forward | tf32 | 0.010 |  |  |  |  |  |", "| cuda:0,cuda:1 | 128 | 1.000 | 1.75 |"
    for line in (*lines, "| tf32 | default | 5.000 |"):
        assert line in text
    for part in ("1 wrong: paper conv1 in tf32: dbias", "9 passed", "memcheck: 0 errors", "tf32 400.00 TFLOP/s"):
        assert part in text
    assert "Not measured: two things." in text


def test_results_md_says_what_the_files_say(module):
    """No GPU number stands there that no file has; without a file it says that there is none yet."""
    report = module("gpu_report")
    text = (BENCHMARKS / "RESULTS.md").read_text("utf-8")
    assert report.part(BENCHMARKS) in text
    assert ("No GPU has been measured yet" in text) == (not list((BENCHMARKS / "results").glob("gpu-*.json")))
