"""What tinynet raises beyond ValueError (a wrong value or shape) and TypeError (a wrong dtype or kind)."""


class BackwardBeforeForwardError(RuntimeError):
    """backward() needs what forward() kept, and no forward() has run."""


class NonFiniteError(FloatingPointError):
    """NaN or infinity in a place where it can only do harm. `layer` is the name of the layer that met it."""

    def __init__(self, layer: str, message: str):
        super().__init__(f"{layer}: {message}")
        self.layer = layer


class DeviceError(RuntimeError):
    """A GPU that is not there, cannot be used, or failed. The text says what to do."""


class DeviceMemoryError(DeviceError, MemoryError):
    """A GPU has no room left for an array."""


class GradcheckError(AssertionError):
    """A gradient that backward() gave is not the derivative of forward(). The text is the report."""


class Terminated(SystemExit):
    """A training run was ended from outside, by SIGTERM or SIGHUP, with everything kept. Unless it is caught, the
    program ends with exit code 128 + `signum`, as a shell reports it: 143 for SIGTERM."""

    def __init__(self, signum: int, message: str = "terminated"):
        super().__init__(128 + signum)
        self.signum, self.message = signum, message

    def __str__(self) -> str:
        return self.message


class RunsPlainWarning(UserWarning):
    """A layer that has a fast twin runs as it is written, because it is not what the twin was written for."""
