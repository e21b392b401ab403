import numpy as np

from tinynet.checks import checked_labels
from tinynet.layers.layer import Layer


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
        N, K = logits.shape
        labels = self.xp.asarray(self.check_labels(labels, N, K))
        z = logits - logits.max(axis=1, keepdims=True)
        total = np.exp(z).sum(axis=1, keepdims=True)
        self.saved = np.exp(z) / total, labels
        z_label = np.where(self.onehot(labels, K), z, 0).sum(axis=1)
        z_label += np.where((labels >= 0) & (labels < K), 0, np.nan)  # on a GPU: see above
        return (np.log(total)[:, 0] - z_label).mean(dtype=np.float64)

    def backward(self, dy=1.0):
        p, labels = self.saved
        N, K = p.shape
        return (p - self.onehot(labels, K)) * (float(dy) / N)

    def onehot(self, labels, K):
        """(N, K): True at the label."""
        return labels[:, None] == self.xp.arange(K)

    def output_shape(self, shape):
        self.check_shape("x", shape, ("N", "K"))
        return ()

    def check_labels(self, labels, N, K):
        """The labels as an array; raises TypeError or ValueError unless they are N whole numbers in [0, K)."""
        return checked_labels(str(self), labels, N, K)
