r"""Metrics of attacks and defences, each with the number of samples, an interval, and where its definition comes from.

f is the model under test, f0 the same before a defence, T the trigger, t the attacker's label of a sample:

    ACC         mean 1[f(x) = y] on the clean test samples
    ASR         mean 1[f(T(x)) = t] over samples whose true label is not t
    no-trigger  mean 1[f(x) = t] over clean test samples of the attacked classes: what ASR would be for nothing
    RA          mean 1[f(T(x)) = y] over the samples of ASR: is the right answer back, or only the wrong one gone?
    Delta       value(f0) - value(f), so that a defence wants Delta ASR > 0, Delta ACC <= 0, Delta RA < 0
    DER         (max(0, Delta ASR) - max(0, Delta ACC) + 1) / 2
    RIR         (max(0, -Delta RA) - max(0, Delta ACC) + 1) / 2
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.defences.rates import Change, Rate, paired_difference
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.learners.resolve import is_module


@dataclass(frozen=True, eq=False)
class Scores:
    """Several rates of one model by name, such as `scores["asr"]`."""

    rates: Mapping[str, Rate] = field(default_factory=dict)

    def __getitem__(self, name) -> Rate:
        if name not in self.rates:
            raise InvalidInput(f"`{name}` was not measured; there are {', '.join(self.rates)}.")
        return self.rates[name]

    def __contains__(self, name):
        return name in self.rates

    def to_frame(self) -> pd.DataFrame:
        """Return one row a metric: metric, value, low, high, n, source."""
        return pd.DataFrame([rate.row() for rate in self.rates.values()])

    def __repr__(self):
        return "\n".join(map(repr, self.rates.values()))


def predictions(model, X, *, image_shape=None, classes=None) -> np.ndarray:
    """Return the labels that a model gives to samples.

    Parameters
    ----------
    model : torch.nn.Module, object with `predict`, or callable
        A module's outputs stand for `classes` in sorted order, and it gets images where `image_shape` is known.
    X : array of shape (n, d) or images
    classes : array, optional
        Labels of a module's outputs; 0 .. K - 1 by default.
    """
    if is_module(model):
        import torch

        from learningcurves.networks.runtime import network_dtype, torch_threads
        from learningcurves.networks.samples import as_samples
        from learningcurves.networks.scores import network_outputs

        samples = as_samples(X, "`X`", network_dtype(model))
        if samples.ndim == 2 and image_shape is not None:
            samples = samples.reshape(len(samples), *image_shape)
        if not len(samples):
            return np.array([], dtype=np.int64 if classes is None else np.asarray(classes).dtype)
        with torch_threads(1):
            outputs = network_outputs(model, samples)
        codes = (outputs[:, 0] > 0).long() if outputs.shape[1] == 1 else torch.argmax(outputs, 1)
        codes = codes.numpy()
        if classes is not None and codes.size and codes.max() >= len(classes):
            raise InvalidInput(f"the module chose output {codes.max()}, but there are {len(classes)} classes.")
        return codes if classes is None else np.asarray(classes)[codes]
    predict = getattr(model, "predict", model)
    if not callable(predict):
        raise NotSupported(f"`model` is a {type(model).__name__}; expected a torch module, a classifier or a function.")
    labels = np.asarray(predict(X))
    if labels.shape != (X.shape[0],):
        raise InvalidInput(
            f"`model` gave predictions of shape {labels.shape} for {X.shape[0]} samples; expected one label a sample."
        )
    return labels


def attack_scores(model, problem: BackdoorProblem, *, level: float = 0.95) -> Scores:
    r"""Return ACC, ASR, the no-trigger rate and RA of a model on a problem's test sets.

    .. math:: \mathrm{ACC} = \overline{\mathbf 1[f(x) = y]}, \quad \mathrm{ASR} = \overline{\mathbf 1[f(T(x)) = t]}, \quad
              \mathrm{RA} = \overline{\mathbf 1[f(T(x)) = y]}, \quad \text{no trigger} = \overline{\mathbf 1[f(x) = t]}

    Parameters
    ----------
    model : torch.nn.Module, object with `predict`, or callable
        As for `predictions`.
    problem : BackdoorProblem
        With `y_source`, the true labels of the triggered samples.
    level : float, default=0.95
        Of the intervals.

    Returns
    -------
    Scores
        With the keys "acc", "asr", "no_trigger", "ra". Triggered samples whose true label is the attacker's own are left
        out. "no_trigger" is taken on the clean test samples of the attacked classes.
    """
    if not isinstance(problem, BackdoorProblem):
        raise InvalidInput(
            f"`problem` is a {type(problem).__name__}; expected a BackdoorProblem, such as lc.poison makes."
        )
    if problem.y_source is None:
        raise InvalidInput(
            "`problem.y_source` is missing: without true labels the target class cannot be left out of ASR."
        )
    look = {"image_shape": problem.image_shape, "classes": problem.classes}
    clean = predictions(model, problem.X_test, **look)
    triggered = predictions(model, problem.X_triggered, **look)
    attacked = problem.y_source != problem.y_triggered
    target_of = dict(zip(problem.y_source[attacked].tolist(), problem.y_triggered[attacked].tolist(), strict=True))
    rows = np.isin(problem.y_test, list(target_of)) if target_of else np.zeros(len(problem.y_test), bool)
    goal = np.array([target_of[y] for y in problem.y_test[rows].tolist()], dtype=problem.y_test.dtype)
    return Scores(
        {
            "acc": Rate("acc", clean == problem.y_test, level),
            "asr": Rate("asr", (triggered == problem.y_triggered)[attacked], level),
            "no_trigger": Rate("no_trigger", clean[rows] == goal, level),
            "ra": Rate("ra", (triggered == problem.y_source)[attacked], level),
        }
    )


def semantic_scores(model, data: Dataset, problem: BackdoorProblem, *, level: float = 0.95) -> Scores:
    """Return ACC, SR of a semantic attack and its two controls.

    Parameters
    ----------
    model : as for `predictions`
    data : Dataset
        The data set that `problem` was made from by `poison_semantic`.
    problem : BackdoorProblem

    Returns
    -------
    Scores
        "acc" (trigger subset left out), "sr" (feature and attacked class, called t), and the controls
        "feature_elsewhere" (feature on other classes, t itself left out, called t) and "source_without_feature"
        (attacked classes without the feature, called t). Where SR is no higher than the controls, the model has
        learned the feature alone, or the classes alone, and no backdoor.
    """
    facts = problem.provenance or {}
    if facts.get("attack") != "semantic":
        raise InvalidInput("`problem` is no semantic attack; make it with poison_semantic(data, ...).")
    attacked = np.array(facts["attacked_test"], dtype=np.int64)
    if attacked.max(initial=-1) >= len(data.y_test) or not np.array_equal(data.X_test[attacked], problem.X_triggered):
        raise InvalidInput("`data` is not the data set that `problem` was made from: its test samples differ.")
    has = np.zeros(len(data.y_test), dtype=bool)
    has[facts["feature_test"]] = True
    target_of = {source: target for source, target in facts["labels"]}
    goal, source = next(iter(target_of.values())), np.isin(data.y_test, list(target_of))
    predicted = predictions(model, data.X_test, image_shape=data.image_shape, classes=data.classes)
    called, others = predicted == goal, np.setdiff1d(np.arange(len(has)), attacked)
    return Scores(
        {
            "acc": Rate("acc", (predicted == data.y_test)[others], level),
            "sr": Rate("sr", called[attacked], level),
            "feature_elsewhere": Rate("feature_elsewhere", called[has & ~source & (data.y_test != goal)], level),
            "source_without_feature": Rate("source_without_feature", called[source & ~has], level),
        }
    )


def target_rate(model, X, target, *, name="perturbation_only", image_shape=None, classes=None, level=0.95) -> Rate:
    """Return the share of samples that a model calls `target`, for controls such as "perturbation only".

    For a clean-label attack: give test samples of other classes with the attack's perturbation and no trigger. If they
    are called the target as often as triggered ones, the network learned the perturbation and not the trigger.
    """
    predicted = predictions(model, X, image_shape=image_shape, classes=classes)
    return Rate(name, predicted == target, level)


def defence_scores(before: Scores, after: Scores, *, level: float = 0.95) -> pd.DataFrame:
    r"""Compare a network before and after a defence: Delta ACC, Delta ASR, Delta RA, DER and RIR.

    Parameters
    ----------
    before, after : Scores
        Of `attack_scores` on the same problem.
    level : float, default=0.95

    Returns
    -------
    DataFrame
        One row a metric: metric, value, low, high, n, source. Differences have Newcombe's interval for paired shares
        (`paired_difference`); those of DER and RIR follow from the two differences at level 1 - (1 - level) / 2 each, so
        that they hold at least at `level`.
    """
    for name, scores in (("before", before), ("after", after)):
        if not isinstance(scores, Scores):
            raise InvalidInput(
                f"`{name}` is a {type(scores).__name__}; expected what attack_scores(network, problem) gives."
            )
    half = 1 - (1 - level) / 2
    changes = {name: paired_difference(before[name], after[name], level) for name in ("acc", "asr", "ra")}
    wide = {name: paired_difference(before[name], after[name], half) for name in ("acc", "asr", "ra")}
    rows = [changes[name].row() for name in ("acc", "asr", "ra")]
    for name, gain, sign in (("der", "asr", 1), ("rir", "ra", -1)):
        low, high = sorted((sign * wide[gain].low, sign * wide[gain].high))
        value = rating(sign * changes[gain].value, changes["acc"].value)
        worst, best = rating(low, wide["acc"].high), rating(high, wide["acc"].low)
        rows.append(Change(name, value, worst, best, min(changes[gain].n, changes["acc"].n)).row())
    return pd.DataFrame(rows)


def rating(gain: float, cost: float) -> float:
    """Return (max(0, gain) - max(0, cost) + 1) / 2, in [0, 1]; 1/2 where nothing changes."""
    return (max(0.0, gain) - max(0.0, cost) + 1) / 2
