"""A run's numbers as TensorBoard event files, an extra: pip install tensorboardX."""

from typing import Any

from tinynet.training.trainer import Record, Trainer

FOLDER = "tensorboard"  # in the run's folder
SCALARS = {  # of each kind of record: where TensorBoard shows which value
    "step": {"loss/training": "train_loss", "error/training": "train_error", "learning_rate": "lr"},
    "epoch": {
        "loss/validation": "val_loss",
        "error/validation_top1": "val_top1_error",
        "error/validation_top5": "val_top5_error",
        "images_per_second": "images_per_second",
    },
}


class TensorBoard:
    """A callback of the Trainer that writes each new record into event files in `trainer.out`/tensorboard; look at them
    with `tensorboard --logdir runs`.

    A resumed run writes all of its records again, into a fresh file, so that nothing stands there twice.
    Raises ImportError, which says what to install, if tensorboardX is missing, ValueError for a Trainer without `out`.
    """

    def __init__(self) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard: expected the package tensorboardX, which is not installed; "
                "python -m pip install tensorboardX"
            ) from error
        self._new_writer, self._written = SummaryWriter, 0
        self._writer: Any = None

    def __call__(self, trainer: Trainer, record: Record) -> None:
        if self._writer is None:
            self._writer = self._start(trainer)
        for line in trainer.records[self._written :]:
            for tag, name in SCALARS.get(line["event"], {}).items():
                self._writer.add_scalar(tag, line[name], line["step"])
        self._written = len(trainer.records)
        self._writer.flush()
        if record["event"] == "final":
            self._writer.close()
            self._writer = None

    def _start(self, trainer: Trainer) -> Any:
        if trainer.out is None:
            raise ValueError("TensorBoard: expected a Trainer with `out`, the folder to write in, got None")
        folder = trainer.out / FOLDER
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._written = 0
        return self._new_writer(str(folder))
