import builtins
import struct

import numpy as np
import pytest
from bounds import roundings

from tinynet.training.tensorboard import TensorBoard
from training.test_trainer import trainer


def scalars(folder):
    """{tag: [(step, value), ...]} of the event files in `folder`, in their order."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="an extra: pip install tensorboardX")
    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        raw, at = path.read_bytes(), 0
        while at < len(raw):  # a record: length in 8 bytes, its checksum in 4, the event, its checksum in 4
            (length,) = struct.unpack_from("<Q", raw, at)
            event = event_pb2.Event.FromString(raw[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def expected(records):
    epochs = [record for record in records if record["event"] == "epoch"]
    return {
        "loss/training": [(r["step"], r["train_loss"]) for r in records if r["event"] == "step"],
        "loss/validation": [(r["step"], r["val_loss"]) for r in epochs],
        "error/validation_top1": [(r["step"], r["val_top1_error"]) for r in epochs],
        "learning_rate": [(r["step"], r["lr"]) for r in records if r["event"] == "step"],
    }


def assert_shown(folder, records):
    found = scalars(folder)
    for tag, points in expected(records).items():
        assert [step for step, _ in found[tag]] == [step for step, _ in points]
        values = [value for _, value in points]  # which an event file holds as float32
        assert [value for _, value in found[tag]] == pytest.approx(values, rel=roundings(1, np.float32))


def test_every_number_is_there_once_also_after_a_resume(tmp_path):
    run = trainer(epochs=2, out=tmp_path, callbacks=[TensorBoard()])
    run.fit()
    assert_shown(tmp_path / "tensorboard", run.records)
    again = trainer(epochs=4, out=tmp_path, callbacks=[TensorBoard()])
    again.fit(resume=tmp_path)
    assert len([record for record in again.records if record["event"] == "epoch"]) == 4
    assert_shown(tmp_path / "tensorboard", again.records)


def test_a_trainer_without_a_folder():
    with pytest.raises(ValueError, match="TensorBoard: expected a Trainer with `out`"):
        trainer(callbacks=[TensorBoard()]).fit()


def test_what_to_install(monkeypatch):
    usual = builtins.__import__

    def missing(name, *args, **options):
        if name == "tensorboardX":
            raise ImportError("No module named 'tensorboardX'")
        return usual(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match="python -m pip install tensorboardX"):
        TensorBoard()
