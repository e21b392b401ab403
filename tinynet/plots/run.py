"""All pictures of a run, drawn while it trains."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tinynet.backend.device import to_cpu
from tinynet.data.dataset import Dataset
from tinynet.data.loader import Loader
from tinynet.inspect.features import activations, features, layer_names, nearest
from tinynet.layers import Dropout, Flatten
from tinynet.parallel import Split
from tinynet.plots.activations import activation_maps
from tinynet.plots.augmentation import augmentation_sheet
from tinynet.plots.confusion import confusion_matrix
from tinynet.plots.curves import learning_curves
from tinynet.plots.files import save_figure
from tinynet.plots.kernels import first_layer_kernels
from tinynet.plots.most_wrong import Answers, draw_most_wrong
from tinynet.plots.neighbours import nearest_neighbours
from tinynet.plots.predictions import predictions
from tinynet.plots.towers import towers
from tinynet.training.evaluate import predict_parts

SHARE = 0.05  # of the training time, for the pictures that need the net
EARLY = 60.0  # seconds from one drawing to the next while an epoch is under way
SHOWN, QUERIES, NEIGHBOURS, AUGMENTED, EPOCHS = 8, 5, 6, 4, 6  # pictures on a sheet
BATCH = 16  # pictures that go through the net at a time
UNSHOWN = (Flatten, Dropout)  # the same numbers as the layer before, in evaluation mode


class RunPictures:
    """A callback for `Trainer` that draws into the run's folder, `trainer.out`:

    learning_curves.png, first_layer_kernels.png   after each epoch
    predictions.png        what the net says to a few validation pictures, the same every time
    most_wrong.png         the validation pictures that it gets most wrong
    confusion_matrix.png   which classes it takes for which, over all validation pictures
    nearest_in_fc7.png     the training pictures whose features, the output of the layer `features`, are nearest to
                           those of a few validation pictures; at most `search` training pictures are looked at
    activation_maps.png    a validation picture, cropped as the net gets it, on its way through the net
    augmentation.png       a few training pictures as the net gets them in the first epochs
    towers.png             of a net on several devices: how it is split; drawn when the run begins

    All but the last come at the end, and after an epoch if drawing them took less than 5 % of the training time so far.
    The curves and the augmented pictures do not wait for an epoch's end: they come after a "step" record too, at most
    once a minute, and when the run is interrupted. kernels: the name of the first layer's weight. A net without it, or
    without the layer `features`, gets no such picture, which is said once. Whatever fails is a warning on the screen,
    and training goes on; nothing in it changes: the layers are back in their modes, and no random number is drawn.

    val_loader: a Loader of the whole val_set in its order; its view is what the net sees of all pictures but the
    augmented ones. Raises ValueError for search below 1.
    """

    def __init__(
        self,
        train_set: Dataset,
        val_set: Dataset,
        train_loader: Loader,
        val_loader: Loader,
        *,
        kernels: str = "conv1.weight",
        features: str = "relu7",
        search: int = 2_000,
    ):
        if search < 1:
            raise ValueError(f"RunPictures: expected search to be at least 1, got {search!r}")
        self.train_set, self.val_set, self.train_loader, self.val_loader = train_set, val_set, train_loader, val_loader
        self.kernels, self.features, self.search = kernels, features, search
        self.seconds = 0.0  # spent on the pictures that need the net
        self._drawn_at, self._augmented = time.perf_counter(), False
        self._said: set[str] = set()

    def __call__(self, trainer: Any, record: Mapping[str, Any]) -> None:
        if trainer.out is None:
            self._say_once("expected a Trainer with `out`, the run's folder, got none; no picture is drawn")
            return
        self._save(trainer, "learning_curves.png", lambda: learning_curves(trainer.records))
        weights = dict(trainer.model.named_parameters())
        if self.kernels in weights:
            self._save(trainer, "first_layer_kernels.png", lambda: self._kernels(trainer.model))
        else:
            self._say_once(f"the net has no {self.kernels}; training goes on without first_layer_kernels.png")
        final = record["event"] == "final"
        last = record.get("epoch") == trainer.epochs  # the final record comes at once
        if final or (not last and self.seconds < SHARE * record["seconds"]):
            began = time.perf_counter()
            self._with_the_net(trainer)
            self.seconds += time.perf_counter() - began

    def on_start(self, trainer: Any) -> None:
        if trainer.out is not None and isinstance(trainer.model, Split):
            input_shape = self.train_set.channels, *self.train_loader.size
            self._save(trainer, "towers.png", lambda: towers(trainer.model, input_shape))

    def on_step(self, trainer: Any, record: Mapping[str, Any]) -> None:
        """What can be drawn before an epoch is over; after a step at most once in EARLY seconds."""
        now = time.perf_counter()
        if trainer.out is None or (record["event"] == "step" and now - self._drawn_at < EARLY):
            return
        self._save(trainer, "learning_curves.png", lambda: learning_curves(trainer.records))
        if not self._augmented:
            self._save(trainer, "augmentation.png", self._augmentation)
            self._augmented = True  # it stays the same
        self._drawn_at = time.perf_counter()

    def _with_the_net(self, trainer: Any) -> None:
        model, chosen = trainer.model.whole(), spread(self.val_set.labels, SHOWN)
        with _failure_is_a_warning("predictions.png, most_wrong.png, confusion_matrix.png"):
            images, labels, classes = self.val_set.images, self.val_set.labels, self.val_set.classes
            probabilities, answers = self._answers(model, chosen)
            some = images[chosen], probabilities, labels[chosen], classes
            self._save(trainer, "predictions.png", lambda: predictions(*some))
            self._save(trainer, "most_wrong.png", lambda: draw_most_wrong(images, answers, labels, classes))
            self._save(trainer, "confusion_matrix.png", lambda: confusion_matrix(labels, answers.said, classes))
        self._save(trainer, "activation_maps.png", lambda: self._activations(model, int(chosen[0])))
        self._save(trainer, "augmentation.png", self._augmentation)
        with _failure_is_a_warning("nearest_in_fc7.png"):
            if self.features in layer_names(model):
                self._save(trainer, "nearest_in_fc7.png", lambda: self._neighbours(model, chosen[:QUERIES]))
            else:
                self._say_once(f"the net has no layer {self.features!r}; training goes on without nearest_in_fc7.png")

    def _answers(self, model: Any, chosen: np.ndarray) -> tuple[np.ndarray, Answers]:
        """(probabilities (len(chosen), K) of the chosen pictures, what is kept of all): N * K of them may be more than
        the memory holds."""
        rows: dict[int, np.ndarray] = {}
        found: list[Answers] = []
        seen = 0
        for probabilities, labels in predict_parts(model, self.val_loader):
            if probabilities.shape[1] != len(self.val_set.classes):
                raise ValueError(
                    f"RunPictures: expected a net of {len(self.val_set.classes)} classes, as val_set has, got one of "
                    f"{probabilities.shape[1]}"
                )
            if not np.array_equal(labels, self.val_set.labels[seen : seen + len(labels)]):
                break
            found.append(Answers.of(probabilities, labels))
            rows |= {i: probabilities[i - seen] for i in chosen if seen <= i < seen + len(labels)}
            seen += len(labels)
        if seen != len(self.val_set):
            raise ValueError("RunPictures: expected val_loader to give all of val_set in its order, got another")
        return np.array([rows[i] for i in chosen]), Answers(*map(np.concatenate, zip(*found, strict=True)))

    def _kernels(self, model: Any) -> Figure:
        weight = to_cpu(dict(model.named_parameters())[self.kernels].data)
        towers = max((getattr(layer, "groups", 1) for _, layer in model.named_layers()), default=1)
        return first_layer_kernels(weight, towers if len(weight) % towers == 0 else 1)

    def _activations(self, model: Any, i: int) -> Figure:
        layers = dict(model.named_layers())
        shown = [name for name in layer_names(model) if not isinstance(layers[name], UNSHOWN)]
        one = self.val_set.subset([i])
        x, _ = next(self._as_validated(one, 1).epoch(0))
        unscaled, _ = next(Loader(one, 1, shuffle=False, view=self.val_loader.view).epoch(0))  # in [0, 1]
        return activation_maps(activations(model, x[:1], shown), np.rint(255 * unscaled[0]).astype(np.uint8))

    def _neighbours(self, model: Any, chosen: np.ndarray) -> Figure:
        queries = self.val_set.subset(chosen)
        every = -(-len(self.train_set) // self.search)
        searched = self.train_set.subset(slice(None, None, every))  # a view: no picture is copied
        ours, theirs = (features(model, self._as_validated(part, BATCH), self.features) for part in (queries, searched))
        found = nearest(ours, theirs, min(NEIGHBOURS, len(searched)))
        pictures, labels = searched.images[found], searched.labels[found]
        return nearest_neighbours(queries.images, pictures, queries.labels, labels, self.val_set.classes)

    def _augmentation(self) -> Figure:
        loader = self.train_loader
        chosen = spread(self.train_set.labels, AUGMENTED)
        one_by_one = Loader(  # a picture's views do not depend on the order
            self.train_set, 1, shuffle=False, seed=loader.seed, mean=loader.mean, std=loader.std, view=loader.view
        )
        versions = [[next(one_by_one.epoch(e, start=int(i)))[0][0] for i in chosen] for e in range(EPOCHS)]
        return augmentation_sheet(self.train_set.images[chosen], np.array(versions), loader.mean, loader.std)

    def _as_validated(self, dataset: Dataset, batch_size: int) -> Loader:
        loader = self.val_loader
        return Loader(
            dataset, batch_size, shuffle=False, seed=loader.seed, mean=loader.mean, std=loader.std, view=loader.view
        )

    def _save(self, trainer: Any, file: str, draw: Callable[[], Figure]) -> None:
        with _failure_is_a_warning(file):
            save_figure(draw(), trainer.out / file)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            print(f"train: warning: {text}", file=sys.stderr)


def spread(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of up to `count` pictures of as many classes as possible: the first of each class, the classes evenly
    spaced if there are more than `count`, then the second of each, and so on."""
    order = np.argsort(labels, kind="stable")
    of_class = np.bincount(labels)
    ranks = np.arange(len(labels)) - np.repeat(np.cumsum(of_class) - of_class, of_class)  # within its class
    order = order[np.argsort(ranks, kind="stable")]
    present = int((of_class > 0).sum())
    if present > count:
        return order[np.arange(count) * present // count]
    return order[:count]


@contextlib.contextmanager
def _failure_is_a_warning(file: str) -> Iterator[None]:
    """For a picture, which on Windows a viewer may hold open: it is drawn again after the next epoch."""
    try:
        yield
    except Exception as error:
        text = str(error)
        if isinstance(error, OSError) and error.strerror and not error.filename:
            text = error.strerror  # tinynet's own texts name the file and need no [Errno 28]
        text = " ".join(text.split()) or type(error).__name__  # one line
        print(f"train: warning: {file}: {text}; training goes on without this picture", file=sys.stderr)
