"""Softmax with cross-entropy: launches of kernels/softmax_ce.cu. CPU twin: tinynet/ops/softmax_ce.py."""

from typing import Any

import numpy as np

from tinynet.backend import device
from tinynet.backend.launch import launch
from tinynet.mode import is_plain
from tinynet.ops.gpu import THREADS, blocks, pictures_first, same_place, t

BLOCK = 32, 32  # as the kernel wants it


def softmax_ce_forward(logits: Any, labels: Any) -> tuple[Any, Any]:
    """The mean loss, (), and softmax(logits), both on the device. Labels on the CPU go there; those that are there
    stay unseen."""
    z = logits.T if logits.T.flags.c_contiguous else logits.T.copy()
    there = device.to_device(device.as_type(labels, np.int64), device.device_of(z))
    loss, p, mean = same_place(z, z.shape[1:]), same_place(z, z.shape), same_place(z, (1,), np.float64)
    T, N = t(z), z.shape[1]
    launch("softmax_ce", f"softmax_ce_forward<{T}>", (blocks(N, 32),), BLOCK, logits=z, labels=there, loss=loss, p=p)
    launch("softmax_ce", f"softmax_ce_mean<{T}>", (1,), (THREADS,), loss=loss, mean=mean)
    return mean.reshape(()), (p.T, there)


def softmax_ce_wrong(logits: Any, kept: Any, loss: Any, wrong: Any, bad: Any) -> None:
    if is_plain():
        wrong += (logits.argmax(axis=1) != kept[1]).sum()
        bad[2:3] |= ~np.isfinite(logits).all()
        bad[:1] |= (bad[1:2] != 0) | (bad[2:3] != 0) | ~np.isfinite(loss)
        return
    z = logits.T if logits.T.flags.c_contiguous else logits.T.copy()
    args = {"logits": z, "labels": kept[1], "mean": loss.reshape(1), "wrong": wrong, "bad": bad}
    launch("softmax_ce", f"softmax_ce_wrong<{t(z)}>", (blocks(z.shape[1], 32),), BLOCK, **args)


def softmax_ce_backward(kept: Any, factor: float) -> Any:
    p, labels = kept[0].T if kept[0].T.flags.c_contiguous else kept[0].T.copy(), kept[1]
    dlogits, block = same_place(p, p.shape), pictures_first(p.shape[1])
    args = {"p": p, "labels": labels, "dlogits": dlogits, "factor": factor}
    launch("softmax_ce", f"softmax_ce_backward<{t(p)}>", (blocks(len(p), block[1]),), block, **args)
    return dlogits.T
