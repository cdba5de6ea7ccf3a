"""Words for axes, panels and legends: names of learners, units of losses, labels of table columns."""

import re

import numpy as np

_SAME_LEARNER = {
    "kernel_svm": "rbf_svm",
    "svc": "rbf_svm",
    "svm": "linear_svm",
    "linear_svc": "linear_svm",
    "logistic_regression": "logistic",
    "ridge_classifier": "ridge",
    "cnn": "network",
}
_LEARNER_LOSS = {
    "logistic": "logistic",
    "softmax": "softmax",
    "ridge": "squared",
    "linear_svm": "hinge",
    "rbf_svm": "hinge",
    "poly_svm": "hinge",
    "squared_hinge_svm": "squared_hinge",
    "network": "softmax",
}

SYMBOLS = {"beta": "β", "reg": "λ", "fraction": "p", "gamma": "γ", "rho": "ρ", "nu": "ν", "theta": "θ"}
_LABELS = {  # column -> label; {loss} and {per_beta} are filled with the unit of the loss
    "beta": "weight β of the backdoor samples",
    "reg": "regularisation λ",
    "gamma": "kernel parameter γ",
    "fraction": "poisoned fraction p",
    "n_train": "training samples",
    "repeat": "repeat",
    "loss": "test loss{loss}",
    "loss_triggered": "triggered test loss{loss}",
    "loss_clean": "clean test loss{loss}",
    "accuracy": "accuracy",
    "bk": "backdoor accuracy",
    "asr": "attack success rate",
    "accuracy_clean": "clean accuracy",
    "slope": "slope dL/dβ{per_beta}",
    "-slope": "slope, as −dL/dβ{per_beta}",
    "theta": "θ = −(2/π) arctan(dL/dβ)",
    "relative": "relative slope −(dL/dβ)/L(0)",
    "per_unit_weight": "λ dL/dβ{per_beta}",
    "-per_unit_weight": "−λ dL/dβ{per_beta}",
    "area": "area under the curve{loss}",
    "half_beta": "β½, where the loss is half way",
    "breakpoint": "first breakpoint in β",
    "rho": "parameter norm ρ",
    "rho_relative": "norm ratio ρ(β)/ρ(0)",
    "nu": "angular deviation ν",
}


def learner_name(learner) -> str:
    """Return the fixed name of a learner, given its name or the object: ``Logistic()`` -> ``"logistic"``."""
    given = learner if isinstance(learner, str) else type(learner).__name__
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", given).lower().replace(" ", "_")
    name = _SAME_LEARNER.get(name, name)
    kernel = getattr(learner, "kernel", None)
    if name == "rbf_svm" and kernel in ("linear", "poly"):
        name = f"{kernel}_svm"
    if name == "linear_svm" and getattr(learner, "loss", None) == "squared_hinge":
        name = "squared_hinge_svm"
    return name


def learner_loss(learner) -> str | None:
    """Return the loss of a learner by its name (or the object); None where it is not known."""
    return _LEARNER_LOSS.get(learner_name(learner))


def loss_unit(loss: str | None) -> str:
    """Return ``"nats"`` for the log losses, and ``""`` for hinge and squared losses, which have no unit."""
    return "nats" if loss in ("logistic", "softmax") else ""


def axis_label(column: str, loss: str | None = None) -> str:
    """Return the axis label of a table column with its unit; unknown columns are named as they are."""
    unit = loss_unit(loss)
    text = _LABELS.get(column, column.replace("_", " "))
    return text.format(
        loss=f" ({unit})" if unit else "",
        per_beta=f" ({unit} per unit of β)" if unit else " (per unit of β)",
    )


def format_value(value) -> str:
    """Return a short text for one value of an axis: 0.1 -> ``0.1``, 1e-05 -> a power of ten, names as they are."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return str(value)
    value = float(value)
    if value == 0 or not np.isfinite(value) or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}".replace("-", "−") if abs(value) < 1e3 else f"{value:.0f}".replace("-", "−")
    mantissa, exponent = f"{value:.1e}".split("e")
    power = rf"10^{{{int(exponent)}}}"
    mantissa = mantissa.removesuffix(".0")
    return f"${power}$" if mantissa == "1" else rf"${mantissa}\!\times\!{power}$"


def name_value(column: str | None, value) -> str:
    """Return a panel or legend label such as ``λ = 0.1``; learners are named in words."""
    text = format_value(value)
    if column in SYMBOLS:
        return f"{SYMBOLS[column]} = {text}"
    if column is None or isinstance(value, str):
        return text.replace("rbf", "RBF").replace("svm", "SVM").replace("_", " ")
    return f"{column.replace('_', ' ')} = {text}"


def common_loss(frame, loss: str | None = None) -> str | None:
    """Return the loss all learners of the table share the unit of, else None."""
    if loss is not None or "learner" not in frame.columns:
        return loss
    losses = {learner_loss(name) for name in frame["learner"].unique()}
    logs = losses <= {"logistic", "softmax"}
    return losses.pop() if len(losses) == 1 or logs else None
