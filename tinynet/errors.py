"""What tinynet raises beyond ValueError (a wrong value or shape) and TypeError (a wrong dtype or kind)."""


class BackwardBeforeForwardError(RuntimeError):
    """backward() needs what forward() kept, and no forward() has run."""


class NonFiniteError(FloatingPointError):
    """NaN or infinity in a place where it can only do harm. `layer` is the name of the layer that met it."""

    def __init__(self, layer: str, message: str):
        super().__init__(f"{layer}: {message}")
        self.layer = layer


class GradcheckError(AssertionError):
    """A gradient that backward() gave is not the derivative of forward(). The text is the report."""
