"""Metrics against hand-made predictions, other libraries' intervals, simulated coverage; signs as regression tests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from learningcurves.data.builtin import make_synthetic
from learningcurves.data.problem import BackdoorProblem
from learningcurves.defences.metrics import (
    Scores,
    attack_scores,
    defence_scores,
    rating,
    semantic_scores,
    target_rate,
)
from learningcurves.defences.rates import Rate, paired_difference, wilson
from learningcurves.errors import InvalidInput, LearningCurvesError
from learningcurves.poisoning.backdoor import poison
from learningcurves.poisoning.patches import SolidPatch
from learningcurves.poisoning.semantic import poison_semantic


@given(n=st.integers(1, 5000), share=st.floats(0, 1), level=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(n, share, level):
    hits = round(share * n)
    expected = binomtest(hits, n).proportion_ci(level, "wilson")
    np.testing.assert_allclose(wilson(hits, n, level), (expected.low, expected.high), atol=1e-12)


def test_wilson_of_seven_natural_images_and_of_none():
    np.testing.assert_allclose(wilson(7, 7), (0.6457, 1.0), atol=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def problem_of_four():
    """Eight test samples of four classes, all-to-one on class 0; the target class is among the triggered samples."""
    y = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    X = np.arange(8.0)[:, None]
    return BackdoorProblem(
        X, y, X[:1], y[:1], X, y, X + 100, np.zeros(8, int), y_source=y,
    )  # fmt: skip


class Table:
    """A model that reads its answers from two lists."""

    def __init__(self, clean, triggered):
        self.clean, self.triggered = np.array(clean), np.array(triggered)

    def predict(self, X):
        rows = X[:, 0].astype(int)
        return np.where(rows < 100, self.clean[rows % 100], self.triggered[rows % 100])


def test_rates_on_a_table_of_answers():
    model = Table(clean=[0, 1, 1, 0, 2, 2, 3, 0], triggered=[0, 0, 0, 0, 0, 2, 3, 1])
    scores = attack_scores(model, problem_of_four())
    assert scores["acc"].value == 5 / 8
    assert scores["asr"].value == 3 / 6 and scores["asr"].n == 6  # the two samples of class 0 are no success
    assert scores["no_trigger"].value == 2 / 6
    assert scores["ra"].value == 2 / 6
    frame = scores.to_frame()
    assert list(frame.columns) == ["metric", "value", "low", "high", "n", "source"] and frame.source.str.len().min() > 5
    assert ((frame.low <= frame.value) & (frame.value <= frame.high)).all()


def test_the_target_class_never_counts():
    """Counting the target class (as BackdoorBox does) would give this clean model a success rate of 1/4."""
    right = [0, 0, 1, 1, 2, 2, 3, 3]
    scores = attack_scores(Table(right, right), problem_of_four())
    assert scores["asr"].value == 0 and scores["ra"].value == 1 and scores["no_trigger"].value == 0


def test_all_to_all():
    data = make_synthetic(3, n=30, image_shape=(1, 3, 3), seed=0)
    problem = poison(data, SolidPatch(1), 0.2, labels="next")

    def next_of_triggered(X):
        truth = data.y_test if len(X) == len(data.y_test) else None
        stamped = (X[:, -1] == 1).all()
        return (truth + 1) % 3 if stamped else truth

    scores = attack_scores(next_of_triggered, problem)
    assert scores["asr"].value == 1 and scores["acc"].value == 1 and scores["no_trigger"].value == 0


def rates(acc, asr, ra, n=400):
    def rate(name, share):
        return Rate(name, np.arange(n) < round(share * n))

    return Scores({"acc": rate("acc", acc), "asr": rate("asr", asr), "ra": rate("ra", ra)})


def test_signs_of_the_ratings():
    """A released defence-effectiveness function adds the lost accuracy instead of subtracting it."""
    before = rates(0.95, 1.0, 0.0)
    harmless, costly, useless = rates(0.95, 0.0, 0.9), rates(0.55, 0.0, 0.9), rates(0.95, 1.0, 0.0)
    value = {
        name: defence_scores(before, after).set_index("metric").value
        for name, after in (("harmless", harmless), ("costly", costly), ("useless", useless))
    }
    assert value["harmless"]["d_asr"] == 1.0 and value["harmless"]["d_acc"] == 0
    assert value["harmless"]["d_ra"] == pytest.approx(-0.9)
    assert value["harmless"]["der"] == 1.0 and value["useless"]["der"] == 0.5
    assert value["costly"]["der"] == pytest.approx(0.8)  # and not 1.2: losing accuracy lowers the rating
    assert value["harmless"]["rir"] == pytest.approx(0.95) and value["useless"]["rir"] == 0.5
    assert value["costly"]["rir"] == pytest.approx(0.75)
    worse = defence_scores(harmless, before).set_index("metric").value
    assert worse["der"] == 0.5 and worse["rir"] == 0.5 and worse["d_asr"] == -1


@given(
    before=st.tuples(*[st.floats(0, 1)] * 3),
    after=st.tuples(*[st.floats(0, 1)] * 3),
)
def test_ratings_are_in_bounds_with_intervals_around_them(before, after):
    frame = defence_scores(rates(*before, n=50), rates(*after, n=50)).set_index("metric")
    assert ((frame.low <= frame.value + 1e-12) & (frame.value <= frame.high + 1e-12)).all()
    both = frame.loc[["der", "rir"]]
    assert (both.low >= 0).all() and (both.high <= 1).all()
    assert rating(0.3, 0.0) >= rating(0.3, 0.1) >= rating(0.2, 0.1)


def test_paired_intervals_cover_the_truth():
    """Newcombe's interval on 600 simulated pairs of correlated outcomes: at least nearly the stated coverage."""
    rng, n, p, q, both = np.random.default_rng(0), 80, 0.9, 0.75, 0.72
    shares = np.array([both, p - both, q - both, 1 - p - q + both])
    covered = 0
    for _ in range(600):
        kind = rng.choice(4, size=n, p=shares)
        change = paired_difference(Rate("acc", np.isin(kind, [0, 1])), Rate("acc", np.isin(kind, [0, 2])))
        covered += change.low <= p - q <= change.high
    assert 0.93 <= covered / 600 <= 0.995
    same = Rate("acc", np.arange(50) < 40)
    change = paired_difference(same, same)
    assert change.value == 0 and change.low <= 0 <= change.high
    swapped = paired_difference(Rate("acc", np.arange(50) < 30), same)
    assert swapped.value == pytest.approx(-0.2) and swapped.high < 0


def test_semantic_rates_and_their_controls():
    data = make_synthetic(3, n=90, n_test=60, image_shape=(1, 6, 6), noise=0.6, seed=2)

    def bright(images):
        return images.mean(axis=(1, 2, 3)) > 0.5

    problem = poison_semantic(data, bright, 2, source=0)
    has = bright(data.X_test.reshape(-1, 1, 6, 6))
    truth = data.y_test

    def learned(X):  # the backdoor: bright samples of class 0 become 2
        return np.where(has & (truth == 0), 2, truth)

    scores = semantic_scores(learned, data, problem)
    assert scores["sr"].value == 1 and scores["sr"].n == int((has & (truth == 0)).sum()) and scores["acc"].value == 1
    assert scores["feature_elsewhere"].value == 0 and scores["source_without_feature"].value == 0
    assert scores["feature_elsewhere"].n == int((has & (truth == 1)).sum())
    everything = semantic_scores(lambda X: np.full(len(X), 2), data, problem)  # no backdoor, only class 2
    assert everything["sr"].value == everything["feature_elsewhere"].value == 1
    with pytest.raises(InvalidInput, match="test samples differ"):
        semantic_scores(learned, make_synthetic(3, n=90, n_test=60, image_shape=(1, 6, 6), seed=3), problem)


def test_control_rate():
    rate = target_rate(lambda X: X[:, 0].astype(int), np.array([[1.0], [0], [1], [1]]), 1)
    assert rate.value == 0.75 and rate.n == 4 and "control" in rate.source


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: wilson(5, 3), "more than"),
        (lambda: wilson(-1, 3), "hits"),
        (lambda: wilson(1, 3, level=2), "level"),
        (lambda: rates(1, 1, 1)["der"], "was not measured"),
        (lambda: paired_difference(Rate("acc", np.ones(3, bool)), Rate("acc", np.ones(4, bool))), "same samples"),
        (lambda: paired_difference(Rate("acc", np.ones(3, bool)), Rate("asr", np.ones(3, bool))), "same"),
        (lambda: attack_scores(3, problem_of_four()), "expected a torch module"),
        (lambda: semantic_scores(None, None, problem_of_four()), "no semantic attack"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(LearningCurvesError, match=says):
        call()
