from tinynet.backend.precision import checked_precision
from tinynet.layers.layer import Layer


class WithPrecision(Layer):
    """A layer whose products a GPU can compute in several precisions: Conv2d and Linear."""

    _precision = "fp32"

    @property
    def precision(self) -> str:
        """ "fp32", "tf32x3", "tf32" or "bf16": see `tinynet.backend.precision`. The CPU computes in full precision."""
        return self._precision

    @precision.setter
    def precision(self, precision: str) -> None:
        self._precision = checked_precision(precision, str(self))

    def set_precision(self, precision):
        self.precision = precision
        return super().set_precision(precision)

    def precision_option(self) -> str:
        """Its part of `options()`: nothing for the default."""
        return f", precision={self.precision!r}" * (self.precision != "fp32")
