"""The timeline of a net in towers on simulated GPUs, whose time is simulated, too (cuda_on_cpu/fake_streams.py)."""

import itertools
import json
import types

import numpy as np
import pytest
from parallel.nets import CROSSING, LABELS, SHAPE, small
from strategies import numbers

from tinynet import plots
from tinynet.backend import streams
from tinynet.backend.device import to_device
from tinynet.losses import SoftmaxCE
from tinynet.optim import SGD
from tinynet.parallel.towers.timeline import Timeline, write_chrome_trace
from tinynet.training.step import TrainingStep

PLACES = [("cuda:0", "cuda:1"), ("cuda:0", "cuda:0")]
_made = {}  # what `recorded` gives, by devices: the same in every test
SIZES = ["--train-size", "6", "--val-size", "2", "--batch-size", "2", "--image-size", "28", "--epochs", "1", "--quiet"]


@pytest.fixture(params=PLACES, ids=",".join)
def recorded(request, simulated_gpu, monkeypatch):
    """(devices, the spans of the second of three steps whose pictures are on the first GPU)."""
    devices = request.param
    if devices not in _made:
        monkeypatch.setattr(streams, "time", types.SimpleNamespace(perf_counter=lambda: simulated_gpu.now))
        simulated_gpu.busy, net = True, small(devices, dtype=np.float32)
        net.input_grad, net.recorder = False, Timeline(net, step=2)
        step = TrainingStep(net, SoftmaxCE(), SGD(net.parameters(), 0.05))
        results = [step(to_device(numbers(SHAPE, np.float32), "cuda:0"), LABELS, k) for k in range(3)]
        assert not results[-1].ready  # nobody waited for the step
        _made[devices] = net.recorder.spans()
    return devices, _made[devices]


def of(spans, tower, kind, name):
    """(begin, end) of the work that has this name, or has it among others."""
    (span,) = [s for s in spans if (s.tower, s.kind) == (tower, kind) and name in (s.name, *s.name.split())][:1]
    return span.begin, span.end


def test_every_layer_of_both_towers_and_every_copy_is_there(recorded):
    devices, spans = recorded
    names = list(small().layers)
    for tower, device in enumerate(devices):
        for kind in ("forward", "backward"):
            own = [span for span in spans if (span.tower, span.kind) == (tower, kind)]
            assert {span.device for span in own} == {device}
            assert {name for span in own for name in span.name.split()} == set(names[: len(names) - tower])
    copies = [span for span in spans if span.kind == "copy" and not span.name.startswith("x:")]
    for layer, count in CROSSING.items():
        sizes = [span.nbytes for span in copies if span.name.startswith(f"{layer}: ")]
        assert sum(sizes) == count * SHAPE[0] * 4 // (2 if layer == "fc8" else 1)
        assert len(sizes) == (2 if layer == "fc8" else 4)
    pictures = [(span.tower, span.name, span.nbytes) for span in spans if span.name.startswith("x:")]
    x = 1, "x: cuda:0 to tower 2", 4 * int(np.prod(SHAPE))
    assert pictures == ([x] if devices == PLACES[0] else [])


def test_a_line_shows_one_thing_at_a_time(recorded):
    _, spans = recorded
    assert [span.begin for span in spans] == sorted(span.begin for span in spans)
    assert spans[0].begin == 0
    for tower, line in itertools.product((0, 1), ("compute", "copy")):
        own = [span for span in spans if (span.tower, span.line) == (tower, line)]
        assert own
        assert all(span.begin < span.end for span in own)
        assert all(a.end <= b.begin for a, b in itertools.pairwise(own))


def test_copies_come_after_what_made_their_values_and_before_who_reads_them(recorded):
    _, spans = recorded
    for source, reader in ((0, 1), (1, 0)):
        begin, end = of(spans, reader, "copy", f"conv3: tower {source + 1} to {reader + 1}")
        assert of(spans, source, "forward", "pool2")[1] <= begin
        assert end <= of(spans, reader, "forward", "conv3")[0]
    begin, end = of(spans, 1, "copy", "fc8: tower 1 to 2")  # backward
    assert of(spans, 0, "backward", "fc8")[1] <= begin
    assert end <= of(spans, 1, "backward", "drop7")[0]


def test_copies_between_gpus_overlap_computing(recorded):
    devices, spans = recorded
    if devices == PLACES[0]:
        begin, end = of(spans, 1, "copy", "x: cuda:0 to tower 2")
        assert of(spans, 0, "forward", "conv1")[0] < end  # tower 1 has its picture already
        assert end <= of(spans, 1, "forward", "conv1")[0]
    for layer in ("fc7", "fc6"):  # dx crosses while the gradients of the weights are computed
        first, weights = [s for s in spans if (s.tower, s.kind, s.name) == (0, "backward", layer)]
        begin, end = [s for s in spans if s.name == f"{layer}: tower 1 to 2"][-1][4:6]
        assert first.end <= begin
        if devices == PLACES[0]:
            assert begin < weights.end


def test_the_files(recorded, tmp_path):
    devices, spans = recorded
    write_chrome_trace(spans, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text("utf-8"))["traceEvents"]
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert names == {0: f"tower 1, {devices[0]}", 1: f"tower 2, {devices[1]}"}
    work = [event for event in events if event["ph"] == "X"]
    assert len(work) == len(spans)
    assert {(event["pid"], event["tid"]) for event in work} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    figure = plots.timeline(spans)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [names[0], "copies to it", names[1], "copies to it"]
    assert sum(len(collection.get_paths()) for collection in figure.axes[0].collections) == len(spans)


@pytest.mark.parametrize("devices", ["0,1", "0,0"])
@pytest.mark.usefixtures("gpu")
def test_the_program_writes_it(request, quick, tmp_path, devices):
    if devices == "0,1":
        request.getfixturevalue("two_gpus")
    assert quick(*SIZES, "--out", "run", "--devices", devices, "--trace", "trace.json") == 0
    events = json.loads((tmp_path / "trace.json").read_text("utf-8"))["traceEvents"]
    copied = [event["args"]["bytes"] for event in events if event.get("cat") == "copy"]
    pictures = 4 * 3 * 28 * 28 * (devices == "0,1")
    # maps of 6 x 6 before conv3 and of 2 x 2 before fc6, of 64 channels; 256 neurons, twice: of two pictures
    assert sum(copied) == 2 * (4 * 2 * 64 * 36 + 4 * 2 * 64 * 4 + 4 * 2 * 256 + 4 * 256 + pictures)
    assert (tmp_path / "trace.png").read_bytes().startswith(b"\x89PNG")
