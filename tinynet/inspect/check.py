"""What is missing or wrong in one layer, as one sentence: `tinynet check`.

The layer's own lines run, in plain mode, on each example that the table has for it (`tinynet.inspect.examples`): are
forward and backward there; is forward what the layer's formula says (`tinynet.inspect.reference`, for tinynet's own
layers); is backward the derivative of forward (`tinynet.inspect.gradcheck`); are the promises kept that a net counts
on (`tinynet.inspect.promises`). The first thing that is wrong ends it, for what comes after may follow from that.
"""

import contextlib
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinynet.inspect import diagnosis
from tinynet.inspect.examples import ROWS, Example
from tinynet.inspect.promises import promises
from tinynet.inspect.special import SPECIAL
from tinynet.inspect.trial import OWN, Trial, Wrong, is_own
from tinynet.layers.layer import Layer
from tinynet.mode import plain

WHAT_TO_WRITE = {
    "forward": "write forward(self, x){}, which returns y",
    "backward": "write backward(self, dy){}, which takes dL/dy, of y's shape, returns dx = dL/dx, of x's shape, and "
    "adds each parameter's gradient into its .grad",
    "output_shape": "write output_shape(self, shape){}, which returns the shape of y for an x of `shape`",
}
MOST = 15  # lines of details
LIMIT = 60  # seconds for one layer, which takes less than one: a loop in it may have no end


@dataclass
class Verdict:
    """`sentence` says it all, `details` more; `method` is the one in which something is wrong or missing."""

    right: bool
    sentence: str
    details: list[str] = field(default_factory=list)
    method: str = ""
    checks: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return "\n".join([self.sentence, *(f"  {line}" for line in self.details)])


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """TimeoutError in what runs inside, once it took so long; where the system has no timer nothing ends it."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*where: Any) -> None:
        raise TimeoutError(f"no end within {seconds:g} s: a loop without an end?")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_layer(kind: type[Layer], examples: Sequence[Example] | None = None) -> Verdict:
    """The verdict on a class; `examples` are, unless given, those of its row, or of the row of a class of its name.

    Raises ValueError if there is none.
    """
    examples = ROWS[OWN[kind.__name__]] if examples is None and is_own(kind) else examples
    if not examples:
        raise ValueError(f"{kind.__name__}: expected an example, how to make one and the shape of an x; got none")
    begin, checks, made = time.perf_counter(), 0, False
    trials = [Trial(kind, example) for example in examples]
    trial = trials[0]
    try:
        with plain(), within(LIMIT), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            _is_defined(trial)
            seen = [f"{_one_line(trial.make())} and x of shape {trial.example.shape}" for trial in trials]
            made = True
            for trial in trials:
                _parts_are_right(trial)
            for check in promises(trial):
                for trial in trials:
                    check(trial)
                    checks += 1
    except (Exception, SystemExit) as error:
        wrong = trial.failed("forward" if made else "__init__", error, "fails")
        sentence = f"{wrong.method} of {kind.__name__} ({_where(kind, wrong.method, wrong.line)}) {wrong.what}"
        details = [f"seen with {seen[trials.index(trial)]}"] if made and not wrong.whole else []
        details += wrong.details[: MOST - len(details)]
        return Verdict(False, wrong.what if wrong.whole else sentence, details, wrong.method, checks)
    seconds = time.perf_counter() - begin
    known = trial.formula is not None or (trial.own and kind.__name__ in SPECIAL)
    agree = "forward is what its formula says, " * known + "backward is the derivative of forward"
    sentence = f"{kind.__name__} is right: {agree}, and a layer's promises are kept ({checks} checks, {seconds:.1f} s)"
    details = [f"looked at {one}" for one in seen]
    if not known:
        details.append("what forward should compute is not known here: compare some numbers with the formula by hand")
    return Verdict(True, sentence, details, "", checks, seconds)


def check_all() -> Iterator[Verdict]:
    """A verdict for each of tinynet's layers and losses, one after the other."""
    for kind in ROWS:
        yield check_layer(kind)


def _is_defined(trial: Trial) -> None:
    kind = trial.kind
    for method, what in WHAT_TO_WRITE.items():
        if getattr(kind, method) is not getattr(Layer, method) or (method == "output_shape" and not trial.own):
            continue
        there = "backward" if method == "forward" else "forward"
        code = None if getattr(kind, there) is getattr(Layer, there) else diagnosis.code_of(getattr(kind, there))
        beside = f" beside its {there}, line {code.co_firstlineno}," if code else ""
        write = what.format(f" in {diagnosis.shown(diagnosis.file_of(kind))}{beside}").replace(",,", ",")
        raise Wrong(method, f"{kind.__name__} has no {method}: {write}", whole=True)


def _parts_are_right(trial: Trial) -> None:
    """Of a Sequential: what is wrong with a layer inside is not its own fault."""
    if trial.kind.__name__ != "Sequential" or not trial.own:
        return
    for kind in {type(layer): None for layer in trial.make()}:
        if not (verdict := check_layer(kind)).right:
            what = f"Sequential was not judged, for its {kind.__name__} is wrong: {verdict.sentence}"
            raise Wrong(verdict.method, what, verdict.details, whole=True)


def _where(kind: type[Layer], method: str, line: int) -> str:
    """The file, and the line where the method begins, or the one that is given."""
    code = diagnosis.code_of(getattr(kind, method, None))
    path = code.co_filename if code else diagnosis.file_of(kind)
    line = line or (code.co_firstlineno if code else 0)
    return diagnosis.shown(path) + (f", line {line}" if line else "")


def _one_line(layer: Layer) -> str:
    return " ".join(repr(layer).split())
