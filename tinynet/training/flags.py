"""What a training step on GPUs notes about itself, where it computes, so that the host need not look."""

from collections.abc import Sequence

import numpy as np

from tinynet.backend.device import empty, zeros
from tinynet.backend.streams import copy_in_order
from tinynet.ops.elementwise import or_to


class Flags:
    """wrong: (1,), the step's wrong answers, on the first of `devices`, which computes the loss. bad: {device: (3,)},
    on each of them numbers that went bad, as `tinynet.ops.softmax_ce.softmax_ce_wrong` and an update note them: the
    first one learns of the loss and the logits, each of its own weights. read: (4,), both, as the first one knows them.
    """

    def __init__(self, devices: Sequence[str]):
        first, *others = devices
        self.read = zeros((4,), np.int32, first)
        self.wrong = self.read[:1]
        self.bad = {first: self.read[1:], **{other: zeros((3,), np.int32, other) for other in others}}

    def tell_others(self) -> None:
        """What the first device knows all know: before they change weights."""
        first, *others = self.bad.values()
        for other in others:
            copy_in_order(other, first)

    def ask_others(self) -> None:
        """What any device knows the first one knows: after they changed weights."""
        (device, first), *others = self.bad.items()
        for _, other in others:
            told = empty(first.shape, first.dtype, device)
            copy_in_order(told, other)
            or_to(first, told)
