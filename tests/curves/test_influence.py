"""Pairwise influence: sums, signs, blocks; every entry against leaving one sample in or out."""

import numpy as np
import pytest
from helpers import HINGE, SMOOTH, SOFTMAX, digits, rows, synthetic

import learningcurves as lc

LEARNERS = {**SMOOTH, **HINGE, **SOFTMAX}


def problem_of(name):
    return synthetic() if "softmax" in name else digits()


@pytest.mark.parametrize("at", [0.0, 0.4])
@pytest.mark.parametrize("name", LEARNERS)
def test_sum_over_samples_and_mean_over_tests_is_the_slope(name, at):
    problem, learner = problem_of(name), LEARNERS[name]
    influence = lc.pairwise_influence(learner, problem, at)
    assert influence.shape == (len(problem.y_triggered), problem.n_backdoor)
    slope = lc.backdoor_slope(learner, problem, at).value
    matrix = influence.block()
    np.testing.assert_allclose(matrix.mean(axis=0).sum(), slope, rtol=1e-7)
    np.testing.assert_allclose(influence.mean(), matrix.mean(axis=0), rtol=1e-7, atol=1e-10 * np.abs(matrix).max())
    np.testing.assert_allclose(influence.block([1, 3], slice(0, 2)), matrix[[1, 3], :2], rtol=1e-12)


@pytest.mark.parametrize("name", ["logistic", "ridge", "squared hinge", "svm", "rbf", "softmax"])
def test_one_column_is_the_slope_of_a_problem_with_that_backdoor_sample_alone(name):
    problem, learner = problem_of(name), LEARNERS[name]
    matrix = lc.pairwise_influence(learner, problem).block()
    for j in (0, problem.n_backdoor - 1):
        alone = rows(problem, X_backdoor=problem.X_backdoor[[j]], y_backdoor=problem.y_backdoor[[j]])
        slope = lc.backdoor_slope(learner, alone).value
        np.testing.assert_allclose(matrix[:, j].mean(), slope, rtol=1e-7, atol=1e-12)


def test_clean_samples_count_through_their_own_weight():
    """The derivative in one clean sample's weight, by refitting with that weight moved."""
    problem = digits()
    learner, h, j = lc.Logistic(reg=1.0), 1e-4, 5
    influence = lc.pairwise_influence(learner, problem, samples="clean")
    assert influence.shape[1] == problem.n_clean
    assert lc.pairwise_influence(learner, problem, samples="training").shape[1] == problem.n_clean + problem.n_backdoor
    # a backdoor sample equal to clean sample j, at weight beta: the clean weight is 1 + beta
    twin = rows(problem, X_backdoor=problem.X_clean[[j]], y_backdoor=problem.y_clean[[j]])
    from helpers import Refits

    refits = Refits(learner, twin)
    np.testing.assert_allclose(influence.mean()[j], refits.central(0.0, 100 * h), rtol=1e-6)


@pytest.mark.parametrize("name", ["logistic", "svm", "softmax"])
def test_top_has_the_signs_it_says(name):
    problem = problem_of(name)
    influence = lc.pairwise_influence(LEARNERS[name], problem, 0.2)
    matrix = influence.block()
    for t in (0, influence.shape[0] - 1):
        (helpful, gains), (harmful, losses) = influence.top(t, 3)
        assert np.all(gains < 0)
        assert np.all(losses > 0)
        assert np.all(np.diff(gains) >= 0)
        assert np.all(np.diff(losses) <= 0)
        np.testing.assert_allclose(gains, matrix[t, helpful], rtol=1e-12)
        np.testing.assert_allclose(losses, matrix[t, harmful], rtol=1e-12)
        if len(gains):
            np.testing.assert_allclose(gains[0], matrix[t].min(), rtol=1e-12)
        np.testing.assert_array_equal(influence.top(t, 3, kind="harmful")[0], harmful)
    with pytest.raises(lc.InvalidInput, match="`t="):
        influence.top(influence.shape[0])
    with pytest.raises(lc.InvalidInput, match="`n="):
        influence.top(0, 0)


def test_without_backdoor_samples_there_is_nothing_to_ask_for():
    problem = digits()
    empty = rows(problem, X_backdoor=problem.X_backdoor[:0], y_backdoor=problem.y_backdoor[:0])
    with pytest.raises(lc.InvalidInput, match="no backdoor samples"):
        lc.pairwise_influence(lc.Logistic(), empty)
    assert lc.pairwise_influence(lc.Logistic(), empty, samples="clean").shape[1] == problem.n_clean
