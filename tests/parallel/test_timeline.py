"""What a recorder learns of a split net's step, and what is made of it."""

import itertools
import json

import numpy as np
import pytest
from strategies import numbers

from tinynet import plots
from tinynet.losses import SoftmaxCE
from tinynet.models import alexnet_mini
from tinynet.parallel.towers.timeline import Span, Timeline, write_chrome_trace
from tinynet.plots.towers import crossing_bytes

N = 3


@pytest.fixture(scope="module")
def recorded():
    """(a split net, its timeline of the second of three steps), and after each step a forward that is none."""
    model, loss = alexnet_mini(devices=("cpu", "cpu")), SoftmaxCE()
    model.recorder = timeline = Timeline(model, step=2)
    x, labels = numbers((N, 3, 32, 32), np.float32), np.arange(N)
    for _ in range(3):
        assert not timeline.done
        model.eval()(x)
        loss(model.train()(x), labels)
        model.backward(loss.backward())
    assert timeline.done
    return model, timeline


def test_every_layer_of_every_tower_is_seen_once_each_way(recorded):
    model, timeline = recorded
    spans = timeline.spans()
    for tower in model.towers:
        for kind in ("forward", "backward"):
            own = [span for span in spans if (span.tower, span.kind) == (tower.number, kind)]
            assert all(span.device == "cpu" and span.nbytes == 0 for span in own)
            seen = [name for span in own for name in span.name.split()]
            assert set(seen) == set(tower.layers)
            twice = {name for name in seen if seen.count(name) > 1}
            assert twice <= ({"conv3", "fc6", "fc7", "fc8"} if kind == "backward" else set())  # dx first, then dweight


def test_copies_carry_what_crossed(recorded):
    model, timeline = recorded
    copies = [span for span in timeline.spans() if span.kind == "copy"]
    assert sum(span.nbytes for span in copies) == sum(model.crossed.values()) > 0
    assert {span.name.partition(":")[0] for span in copies} == set(model.crossed)


def test_a_tower_does_one_thing_at_a_time_and_the_step_begins_at_0(recorded):
    spans = recorded[1].spans()
    assert min(span.begin for span in spans) == 0
    for tower in (0, 1):
        own = [span for span in spans if span.tower == tower]
        assert all(span.begin <= span.end for span in own)
        assert all(a.end <= b.begin for a, b in itertools.pairwise(own))


def test_what_a_tower_reads_is_made_before(recorded):
    spans = recorded[1].spans()
    made = {span.tower: span.end for span in spans if span.kind == "forward" and span.name.split()[-1] == "pool2"}
    read = {span.tower: span.begin for span in spans if span.kind == "forward" and span.name.split()[0] == "conv3"}
    assert max(made.values()) <= min(read.values())


def test_nothing_is_recorded_before_the_step():
    model = alexnet_mini(devices=("cpu", "cpu"))
    model.recorder = timeline = Timeline(model)
    model(numbers((1, 3, 32, 32)))
    assert timeline.spans() == []
    assert not timeline.done
    with pytest.raises(ValueError, match="no training step was recorded"):
        plots.timeline(timeline.spans())


def test_chrome_trace(tmp_path):
    spans = [
        Span(0, "cpu", "forward", "conv1 relu1", 0.0, 0.25, 0),
        Span(1, "cuda:0", "copy", "conv3: tower 1 to 2", 0.5, 0.5625, 4096),
    ]
    write_chrome_trace(spans, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text("utf-8"))["traceEvents"]
    work = [event for event in events if event["ph"] == "X"]
    assert work == [
        {"ph": "X", "name": "conv1 relu1", "cat": "forward", "ts": 0.0, "dur": 250000.0, "pid": 0, "tid": 0},
        {"ph": "X", "name": "conv3: tower 1 to 2", "cat": "copy", "ts": 500000.0, "dur": 62500.0, "pid": 1, "tid": 1}
        | {"args": {"bytes": 4096}},
    ]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names == {(0, 0): "compute", (0, 1): "copy", (1, 0): "compute", (1, 1): "copy"}


def test_the_pictures(recorded, tmp_path):
    model, timeline = recorded
    figure = plots.timeline(timeline.spans())
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["tower 1, cpu", "copies to it", "tower 2, cpu", "copies to it"]
    drawn = sum(len(collection.get_paths()) for collection in figure.axes[0].collections)
    assert drawn == len(timeline.spans())
    plots.save_figure(figure, tmp_path / "timeline.png")

    figure = plots.towers(model, (3, 32, 32))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"tower 1: cpu", "tower 2: cpu", "picture", "3×32×32"} <= set(texts)
    assert texts.count("fc7") == 2
    assert texts.count("fc8") == 1  # the first device's alone
    assert f"{sum(model.crossed.values()) // N:,} bytes cross" in "".join(texts)
    plots.save_figure(figure, tmp_path / "towers.png")


def test_counted_from_shapes_what_crosses_is_what_was_copied(recorded):
    model, _ = recorded
    assert crossing_bytes(model, (3, 32, 32)) * N == sum(model.crossed.values())
