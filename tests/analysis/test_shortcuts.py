"""The plain slope without a mistake is the slope; each mistake does what its name says."""

import numpy as np
import pytest

import learningcurves as lc
from learningcurves.analysis import SHORTCUTS, shortcut_slopes
from learningcurves.analysis.shortcuts import applies_to
from learningcurves.errors import InvalidInput, NotSupported

LEARNERS = [
    lc.Logistic(),
    lc.Logistic(penalize_intercept=False),
    lc.Ridge(),
    lc.Ridge(fit_intercept=False),
    lc.LinearSVM(),
    lc.KernelSVM(gamma=0.05),
]


@pytest.fixture(scope="module")
def problem():
    data = lc.load_digits_pair(7, 1)
    return lc.poison(data, lc.RandomPatch(size=2, seed=1), fraction=0.1, seed=1)


def curve_of(learner, problem, reg):
    return lc.learning_curve(learner, problem, [0.0, 1.0], reg=reg)


@pytest.mark.parametrize("reg", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("learner", LEARNERS, ids=repr)
def test_without_a_mistake_it_is_the_slope(learner, problem, reg):
    curve = curve_of(learner, problem, reg)
    # two independent programs; 1e-7 leaves room for the conditioning of the small bordered systems
    np.testing.assert_allclose(shortcut_slopes(curve)["exact"], curve.slope[0], rtol=1e-7)


def test_scalings_are_exactly_their_factors(problem):
    reg, m = 0.5, problem.n_backdoor
    logistic = shortcut_slopes(curve_of(lc.Logistic(), problem, reg))
    assert logistic["bits"] / logistic["exact"] == pytest.approx(1 / np.log(2))
    for learner in (lc.Logistic(), lc.Ridge(), lc.LinearSVM()):
        slopes = shortcut_slopes(curve_of(learner, problem, reg))
        assert slopes["outer_times_C"] / slopes["exact"] == pytest.approx(1 / reg)
        assert slopes["mean_over_backdoor"] / slopes["exact"] == pytest.approx(1 / m)


def test_hinge_parts_add_up(problem):
    """Direct + correction, direct - correction and correction alone are three views of two numbers."""
    slopes = shortcut_slopes(curve_of(lc.LinearSVM(), problem, 1.0))
    assert slopes["exact"] - slopes["flipped_correction"] == pytest.approx(2 * slopes["no_direct_term"], rel=1e-9)


def test_reg_per_sample_vanishes_without_weights_to_shrink(problem):
    """The stray gradient is m lambda w: it fades with lambda, where w stays bounded (ridge)."""
    gaps = []
    for reg in (1e-1, 1e-3):
        slopes = shortcut_slopes(curve_of(lc.Ridge(), problem, reg))
        gaps.append(abs(slopes["reg_per_sample"] / slopes["exact"] - 1))
    assert gaps[1] < 0.2 * gaps[0]


def test_names_are_explained_and_only_those_that_apply_return(problem):
    assert set(applies_to("logistic")) | set(applies_to("hinge")) == set(SHORTCUTS)
    assert "bits" not in shortcut_slopes(curve_of(lc.Ridge(), problem, 1.0))
    assert "hessian_of_backdoor" not in shortcut_slopes(curve_of(lc.LinearSVM(), problem, 1.0))


def test_all_samples_at_their_bounds_give_nan_not_a_guess(problem):
    """The plain code has no rule for the free intercept then (the package's solver has)."""
    assert np.isnan(shortcut_slopes(curve_of(lc.LinearSVM(), problem, 1e6))["exact"])


def test_bad_input(problem):
    with pytest.raises(InvalidInput, match="beta"):
        shortcut_slopes(lc.learning_curve(lc.Ridge(), problem, [0.5, 1.0]))
    with pytest.raises(NotSupported, match="curve"):
        shortcut_slopes(lc.Ridge())
    with pytest.raises(NotSupported, match="squared_hinge"):
        shortcut_slopes(curve_of(lc.LinearSVM(loss="squared_hinge"), problem, 1.0))
    with pytest.raises(NotSupported, match="intercept"):
        shortcut_slopes(curve_of(lc.LinearSVM(penalize_intercept=True), problem, 1.0))
