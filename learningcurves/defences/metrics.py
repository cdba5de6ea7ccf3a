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
from scipy.stats import norm

from learningcurves.checks import check_integer, check_number
from learningcurves.data.problem import BackdoorProblem, Dataset
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.learners.resolve import is_module

SOURCES = {
    "acc": "clean test accuracy (Gu et al. 2017; BackdoorBench: C-Acc)",
    "asr": "target class excluded, as in ANP (Wu and Wang 2021) and BackdoorBench",
    "no_trigger": "ASR's test samples without the trigger",
    "ra": "robust accuracy (BackdoorBench: R-Acc)",
    "d_acc": "before - after, the sign of BackdoorBench",
    "d_asr": "before - after, the sign of BackdoorBench",
    "d_ra": "before - after, the sign of BackdoorBench",
    "der": "defence effectiveness rating (Zhu et al., ICCV 2023; BackdoorBench's simplified form)",
    "rir": "robustness improvement rating (BackdoorBench)",
    "sr": "natural trigger on the attacked classes (Sun et al., USENIX Security 2024)",
    "feature_elsewhere": "control: the feature on the other classes, called t",
    "source_without_feature": "control: attacked classes without the feature, called t",
    "perturbation_only": "control: perturbed test samples without the trigger, called t",
}


def wilson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    r"""Return Wilson's score interval of a share [1]_: the p with :math:`|\hat p - p| \le z\sqrt{p(1-p)/n}`.

    (0, 1) for n = 0. At 0 or n hits it is one-sided by itself, and never leaves [0, 1].

    References
    ----------
    .. [1] Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    """
    n, hits = check_integer(n, "n", low=0), check_integer(hits, "hits", low=0)
    if hits > n:
        raise InvalidInput(f"`hits={hits}` is more than `n={n}`.")
    check_number(level, "level", low=0, high=1, open_low=True)
    if n == 0:
        return 0.0, 1.0
    z, p = float(norm.ppf(0.5 + level / 2)), hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if hits == 0 else max(0.0, float(centre - half))), (
        1.0 if hits == n else min(1.0, float(centre + half))
    )


@dataclass(frozen=True, eq=False)
class Rate:
    """A share of samples with Wilson's interval.

    Attributes
    ----------
    name : str
        Key of `SOURCES`.
    hit : bool ndarray of shape (n,)
        Sample by sample, in the order of the test set, so that two models can be compared in pairs.
    level : float
        Of the interval.
    """

    name: str
    hit: np.ndarray
    level: float = 0.95

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.hit)

    @property
    def value(self) -> float:
        """The share, NaN without samples."""
        return float(self.hit.mean()) if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval."""
        return wilson(int(self.hit.sum()), self.n, self.level)

    @property
    def source(self) -> str:
        """Where the definition comes from."""
        return SOURCES.get(self.name, "")

    def row(self) -> dict:
        """Return name, value, low, high, n, source."""
        low, high = self.interval
        return {"metric": self.name, "value": self.value, "low": low, "high": high, "n": self.n, "source": self.source}

    def __repr__(self):
        low, high = self.interval
        return f"{self.name} {self.value:.4f} [{low:.4f}, {high:.4f}] (n = {self.n})"


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

        from learningcurves.networks.batches import as_samples
        from learningcurves.networks.runtime import network_dtype, torch_threads
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
    return np.asarray(predict(X))


def attack_scores(model, problem: BackdoorProblem, *, level: float = 0.95) -> Scores:
    """Return ACC, ASR, the no-trigger rate and RA of a model on a problem's test sets.

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


@dataclass(frozen=True)
class Change:
    """A difference or rating between two models, with an interval.

    Attributes
    ----------
    name, value, low, high, n
        As in `Rate`.
    """

    name: str
    value: float
    low: float
    high: float
    n: int

    def row(self) -> dict:
        """Return name, value, low, high, n, source."""
        facts = {"metric": self.name, "value": self.value, "low": self.low, "high": self.high, "n": self.n}
        return {**facts, "source": SOURCES.get(self.name, "")}


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


def paired_difference(before: Rate, after: Rate, level: float = 0.95) -> Change:
    r"""Return before - after on the same samples with Newcombe's interval for paired shares [1]_ (his method 10).

    With Wilson's limits l, u of each share and the correlation phi of the two outcomes (corrected for continuity),
    the limits are :math:`d \mp \sqrt{a^2 - 2\phi a b + b^2}` with a, b the distances of the shares to their limits.

    References
    ----------
    .. [1] Newcombe, Improved confidence intervals for the difference between binomial proportions based on paired
       data, Statistics in Medicine 1998.
    """
    if before.name != after.name or before.n != after.n:
        raise InvalidInput(
            f"`before` is {before.name} of {before.n} samples, `after` {after.name} of {after.n}; they must be the same "
            "metric on the same samples."
        )
    n = before.n
    if n == 0:
        return Change(f"d_{before.name}", float("nan"), -1.0, 1.0, 0)
    p, q = before.value, after.value
    (l1, u1), (l2, u2) = wilson(int(before.hit.sum()), n, level), wilson(int(after.hit.sum()), n, level)
    phi = _correlation(before.hit, after.hit)
    low = p - q - _root(p - l1, u2 - q, phi)
    high = p - q + _root(u1 - p, q - l2, phi)
    return Change(f"d_{before.name}", p - q, max(-1.0, low), min(1.0, high), n)


def _root(a, b, phi):
    return float(np.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b)))


def _correlation(first, second):
    """Return Newcombe's phi: that of the 2 x 2 table, drawn towards 0 by half a sample, 0 where a margin is empty."""
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if not margins:
        return 0.0
    cross = both * neither - only_first * only_second
    if cross > 0:
        cross = max(cross - len(first) / 2, 0.0)
    return cross / np.sqrt(float(margins))
