"""The package's exceptions and the status that every computed number carries."""

import enum


class LearningCurvesError(Exception):
    """Root of all errors raised on purpose by this package."""


class InvalidInput(LearningCurvesError, ValueError):
    """An argument is wrong: the message names it, says what came, and the way out."""


class NotSupported(LearningCurvesError, TypeError):
    """A kind of object the package has no exact answer for; the message lists what is supported."""


class SolveFailed(LearningCurvesError, RuntimeError):
    """A solve ended without an answer; `status` says how."""

    def __init__(self, message: str, status: "Status"):
        super().__init__(message)
        self.status = status


class ConvergenceWarning(UserWarning):
    """A given model is not at the optimum of its own objective; the message holds the number."""


class Status(enum.Enum):
    """How a solve ended. Anything but `OK` means: the number beside it is NaN or marked."""

    OK = "converged"
    NOT_OPTIMAL = "the given parameters are not at the optimum: pass `refine=True`, or train to a smaller tolerance"
    MAX_STEPS = "step limit reached before the tolerance: the residual says how far"
    INDEFINITE = "negative curvature: the parameters are not a minimum of the objective"
    SINGULAR = "the linear system is singular: the derivative is not unique"
    NO_MARGIN_VECTORS = (
        "no margin support vector: the intercept is an interval and the derivative is undefined; "
        "lower `reg`, or use the curve at beta > 0"
    )
    DIVERGED = "the loss became infinite or NaN during training: lower the learning rate"
    DEGENERATE = "a sample sits exactly on a breakpoint: only one-sided derivatives exist"

    @property
    def ok(self) -> bool:
        """Whether the number may be used as it stands."""
        return self is Status.OK
