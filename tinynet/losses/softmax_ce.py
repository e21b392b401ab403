import numpy as np

from tinynet.backend.device import device_of
from tinynet.layers.layer import Layer
from tinynet.ops.softmax_ce import softmax_ce_backward, softmax_ce_forward


class SoftmaxCE(Layer):
    """loss = mean over the batch of -ln softmax(logits)[label];  softmax(z)_j = exp(z_j) / sum_i exp(z_i).

    logits: (N, K) float, labels: (N,) whole numbers in [0, K). The loss is a float; for logits on a GPU it is an array
    () there, for which float() waits. backward() needs no dy (the loss is where backprop starts): dlogits =
    (softmax(logits) - onehot(labels)) / N. Subtracting each row's largest logit changes nothing in the formula and
    keeps exp from overflowing: logits of ±1e4 are fine.

    Where dlogits comes from: one row's loss is ln(sum_i exp(z_i)) - z_label. By z_j, the first term's derivative is
    exp(z_j) / sum_i exp(z_i), which is softmax(z)_j, and the second's is 1 at the label, else 0.

    Labels that are on the GPU already are not looked at, for which the host would have to wait: one that is no class
    makes the loss NaN. A training step (`tinynet.training.step`) looks at them then, and names it.

    Raises TypeError for labels that are not whole numbers, ValueError for a wrong shape or a label out of range.
    """

    def forward(self, logits, labels):  # type: ignore[override]
        self.check_input(logits, ("N", "K"))
        labels = self.check_labels(labels, *logits.shape)
        loss, kept = softmax_ce_forward(logits, labels)
        self.saved = kept, len(labels)
        return loss

    def backward(self, dy=1.0):
        kept, N = self.saved
        return softmax_ce_backward(kept, dy / N)

    def output_shape(self, shape):
        self.check_shape("x", shape, ("N", "K"))
        return ()

    def check_labels(self, labels, N, K):
        """The labels as an array; raises TypeError or ValueError unless they are N whole numbers in [0, K)."""
        if not hasattr(labels, "dtype"):
            labels = np.asarray(labels)
        if not np.issubdtype(labels.dtype, np.integer):
            raise TypeError(
                f"{self}: expected labels of an integer dtype, got {labels.dtype}; of one-hot rows take .argmax(1)"
            )
        if labels.shape != (N,):
            raise ValueError(f"{self}: expected labels of shape ({N},), one for each row of logits; got {labels.shape}")
        if device_of(labels) != "cpu":
            return labels
        wrong = np.flatnonzero((labels < 0) | (labels >= K))
        if wrong.size:
            raise ValueError(f"{self}: expected labels in [0, {K}), got {labels[wrong[0]]} at index {wrong[0]}")
        return labels
