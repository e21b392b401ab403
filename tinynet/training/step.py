"""One step of training, and what is known of it afterwards. On GPUs the host begins a step and does not wait."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tinynet.backend import device
from tinynet.backend.cuda_graph import Recorded
from tinynet.errors import NonFiniteError, RunsPlainWarning
from tinynet.layers.layer import Layer
from tinynet.layers.passes import backward, runs_own_lines
from tinynet.losses.softmax_ce import SoftmaxCE
from tinynet.ops.elementwise import copy_of
from tinynet.ops.softmax_ce import softmax_ce_wrong
from tinynet.optim import SGD
from tinynet.training.evaluate import checked_loss, label_ranks, weights_gone_bad
from tinynet.training.flags import Flags

NUMBERS = "p", "seed", "stream", "alpha", "beta", "k"  # of layers, which launches take as they are


class Result(Protocol):
    """What a step found."""

    classes: int
    steps: int  # that changed the weights, this one included if it did; known once read

    @property
    def ready(self) -> bool:
        """Whether read() need not wait."""

    def read(self) -> tuple[float, int]:
        """(loss, number of wrong answers); waits for them. Raises NonFiniteError naming the layer that went bad,
        ValueError naming a label that is no class, if it was on the GPU and so could not be refused at once."""


class TrainingStep:
    """step(x, labels, number): zero the gradients; loss(model(x), labels); backward; one update of the weights.

    On the CPU all of it is done when the call returns; also if the CPU has one of a net's towers, or if whole layers
    are on several devices. On a GPU, or on several with a tower each, it is under way: the loss, the wrong answers and
    whether a number went bad are noted there (`Flags`) and copied to the host when they are ready. Once one went bad no
    device changes a weight any more, in no later step of this TrainingStep, so that the host, though it hears of it
    some steps later, finds the layer where it began. Labels that are on a GPU must stay as they are until then.

    With graph=True the step is recorded as CUDA graphs (`tinynet.backend.cuda_graph`) when a batch of the largest
    size comes for the second time, and replayed from then on. What a replay must not take from the recording, it reads
    from memory that is written before: x, labels, the step's number for dropout, learning rates. Should anything else
    have changed, an array that was moved, momentum, a layer's mode, the step is run and then recorded anew. Smaller
    batches are run. So is every step while a layer or the loss runs lines of its own (`tinynet.layers.passes.how`): a
    replay would not run them.

    Raises ValueError for graph=True and a model that is not on one GPU.
    """

    def __init__(self, model: Layer, loss: SoftmaxCE, optimizer: SGD, graph: bool = False):
        self.model, self.loss, self.optimizer, self.graph = model, loss, optimizer, graph
        whole = all(parameter.parts == [parameter] for parameter in model.parameters())
        if graph and not (whole and len(self._gpus()) == 1):
            places = dict.fromkeys(part.device for parameter in model.parameters() for part in parameter.parts)
            raise ValueError(
                f"expected a whole model on one GPU for graph=True, got one on {', '.join(places) or 'none'}; move it "
                "there, or leave graph=True out"
            )
        self._flags: Any = None  # `Flags`, from the first step on
        self._recorded: Recorded | None = None
        self._baked: Any = None  # what the recording takes as it is, when the last large batch came
        self._largest = 0
        self._told = False  # why steps are not recorded

    def __call__(self, x: Any, labels: Any, number: int) -> Result:
        places = self._gpus()
        if not places:
            return self._now(x, labels, number)
        if self._flags is None or list(self._flags.bad) != places:
            self._flags, self._recorded = Flags(places), None
        self._largest = max(self._largest, len(x))
        recorded = self._recording(places[0], x) if self.graph and len(x) == self._largest else None
        if recorded is None:
            self.model.at_step(number)
            loss, classes = self._work(self.model.placed(x), labels)
        else:
            loss, classes = self._replay(recorded, x, labels, number)
        arriving = device.Arriving(loss, self._flags.read)
        return UnderWay(self.model, self.loss, labels, classes, number, arriving)

    def _now(self, x: Any, labels: Any, number: int) -> Result:
        """Done when it returns, wherever the net's layers are."""
        labels = device.to_cpu(labels) if hasattr(labels, "dtype") else labels
        self.model.at_step(number)
        self.optimizer.zero_grad()
        loss, logits = checked_loss(self.model, self.loss, x, labels)
        with np.errstate(over="ignore", invalid="ignore"):  # the check of the weights says more than NumPy's warnings
            backward(self.model, backward(self.loss))
            self.optimizer.step()
        return Done(self.model, loss, int((label_ranks(logits, labels) > 0).sum()), logits.shape[1], number + 1)

    def _work(self, x: Any, labels: Any) -> tuple[Any, int]:
        """(loss, classes) of a step on GPUs; nothing here waits for them."""
        flags = self._flags
        self.optimizer.zero_grad()
        logits = self.model(x)
        loss = self.loss(logits, labels)
        device.fill_with_zeros(flags.wrong)
        kept = self.loss.saved
        if runs_own_lines(self.loss):  # they may keep anything, and give any float
            whole = device.as_type(labels if hasattr(labels, "dtype") else np.asarray(labels), np.int64)
            kept = None, device.to_device(whole, device.device_of(logits))
            loss = device.as_type(loss, np.float64)
        softmax_ce_wrong(logits, kept, loss, flags.wrong, flags.bad[device.device_of(logits)])
        backward(self.model, backward(self.loss))
        flags.tell_others()
        self.optimizer.bad = flags.bad
        try:
            self.optimizer.step()
        finally:
            self.optimizer.bad = {}
        flags.ask_others()
        return loss, logits.shape[1]

    def _recording(self, where: str, x: Any) -> Recorded | None:
        """The recording of this step; None if such a step must run once before, to compile what it needs, or if it is
        not to be recorded."""
        own: Any = runs_own_lines(self.model) or runs_own_lines(self.loss)
        if own := own or (self._has_own_update() and type(self.optimizer).__name__):
            self._recorded = self._baked = None
            self._tell(own)
            return None
        baked, before = self._what_is_baked(x), self._baked
        self._baked = baked
        if baked != before:
            self._recorded = None
        elif self._recorded is None:
            self._recorded = self._record(where, x)
        return self._recorded

    def _replay(self, recorded: Recorded, x: Any, labels: Any, number: int) -> tuple[Any, int]:
        loss, classes = recorded.result
        values = {
            "x": x,
            "labels": device.as_type(self.loss.check_labels(labels, len(x), classes), np.int64),
            "step": np.array([number], np.uint32),
            "rates": self._rates(),
        }
        for name, array in recorded.inputs.items():
            device.assign(array, values[name])
        recorded.replay()
        return loss, classes

    def _record(self, where: str, x: Any) -> Recorded:
        inputs = {
            "x": copy_of(device.to_device(x, where)),
            "labels": device.zeros((len(x),), np.int64, where),
            "step": device.zeros((1,), np.uint32, where),
            "rates": device.to_device(self._rates(), where),
        }
        self.model.at_step(0)  # what counts from there is added to inputs["step"]
        return Recorded(lambda: self._work(inputs["x"], inputs["labels"]), where, **inputs)

    def _has_own_update(self) -> bool:
        """Whether the optimiser's step does anything that a replay would not do again."""
        optimizer: Any = self.optimizer
        own = {name for name, value in vars(optimizer).items() if callable(value)}
        return bool(type(optimizer) is not SGD or own or optimizer.runs_own_lines())

    def _tell(self, own: Any) -> None:
        if not self._told:
            self._told = True
            text = "runs lines of its own, which a CUDA graph would not run again: steps are not recorded, but run"
            warnings.warn(f"{own} {text}", RunsPlainWarning, stacklevel=2)

    def _rates(self) -> np.ndarray:
        return np.array(self.optimizer.rates(), self.optimizer.parameters[0].data.dtype)

    def _what_is_baked(self, x: Any) -> Any:
        optimizer, layers = self.optimizer, [layer for _, layer in self.model.named_layers()]
        arrays = [array for p in self.model.parameters() for array in (p.data, p.grad)] + optimizer.velocity
        return (
            *(x.shape, str(x.dtype), repr(self.model), optimizer.momentum, *optimizer.decays()),
            *((layer.training, layer.input_grad, *(getattr(layer, n, None) for n in NUMBERS)) for layer in layers),
            *map(device.address, arrays),
        )

    def _gpus(self) -> list[str]:
        """The GPU of a whole net, or those of its towers, the one that computes the loss first; else none."""
        parameters = list(self.model.parameters())
        places = dict.fromkeys(part.device for parameter in parameters for part in parameter.parts)
        scattered = len(places) > 1 and any(parameter.parts == [parameter] for parameter in parameters)
        return [] if "cpu" in places or scattered else list(places)


@dataclass
class Done:
    """The result of a step that is over."""

    model: Layer
    loss: float
    wrong: int
    classes: int
    steps: int

    @property
    def ready(self) -> bool:
        return True

    def read(self) -> tuple[float, int]:
        if bad := weights_gone_bad(self.model):
            raise NonFiniteError(*bad)
        return self.loss, self.wrong


class UnderWay:
    """The result of a step on GPUs."""

    def __init__(
        self, model: Layer, loss: SoftmaxCE, labels: Any, classes: int, number: int, arriving: device.Arriving
    ):
        self.model, self.loss, self.classes, self.steps = model, loss, classes, number + 1
        self._labels, self._arriving = labels, arriving

    @property
    def ready(self) -> bool:
        return self._arriving.there

    def read(self) -> tuple[float, int]:
        value, (wrong, stopped, weights, logits) = self._arriving.wait()
        loss = float(value)
        if weights and not stopped and (bad := weights_gone_bad(self.model)):
            raise NonFiniteError(*bad)
        if stopped:
            self.steps -= 1  # this one changed no weight
            where = f"met NaN or infinity, on {self.model.device}, where layers are not looked at one by one"
            if math.isfinite(loss) and not (logits or weights):
                why = "was not learned from: an earlier step of this TrainingStep went bad; go on with a new one"
                raise NonFiniteError(str(self.loss), why)
            if logits or math.isfinite(loss):
                raise NonFiniteError(str(self.loss), f"{where}; the same batch on the CPU names the layer")
            if math.isnan(loss):  # of finite logits: labels that were on the GPU nobody has looked at so far
                self.loss.check_labels(device.to_cpu(self._labels), len(self._labels), self.classes)
                raise NonFiniteError(str(self.loss), f"{where}, though logits and labels are sound")
            last: Sequence[Layer] = [self.model, *(layer for _, layer in self.model.named_layers())]
            raise NonFiniteError(str(last[-1]), f"gave an output so large that the loss is {loss}")
        return loss, int(wrong)
