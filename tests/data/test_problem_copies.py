"""Data sets, problems and results survive a copy and a pickle, as read-only as they were."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

import learningcurves as lc

DATA = lc.load_digits_pair(7, 1)
PROBLEM = lc.poison(DATA, lc.RandomPatch(size=2), fraction=0.1)
SETS = ("X_clean", "y_clean", "X_backdoor", "y_backdoor", "X_test", "y_test", "X_triggered", "y_triggered")


def sparse_problem():
    return lc.BackdoorProblem(
        **{name: sp.csr_matrix(v) if name[0] == "X" else v for name in SETS for v in [getattr(PROBLEM, name)]}
    )


@pytest.mark.parametrize("again", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_a_problem_comes_back_as_it_was(again):
    for thing, names in ((PROBLEM, SETS), (DATA, ("X_train", "y_train", "X_test", "y_test"))):
        found = again(thing)
        assert repr(found) == repr(thing) and found.provenance == thing.provenance
        assert found.image_shape == thing.image_shape and found.value_range == thing.value_range
        for name in names:
            np.testing.assert_array_equal(getattr(found, name), getattr(thing, name))
            assert not getattr(found, name).flags.writeable
        with pytest.raises(TypeError):
            found.provenance["seed"] = 1
    assert (again(sparse_problem()).X_clean != sp.csr_matrix(PROBLEM.X_clean)).nnz == 0


def test_a_curve_and_a_slope_come_back_as_they_were():
    curve = lc.learning_curve(lc.Logistic(), PROBLEM, beta=[0.0, 1.0])
    np.testing.assert_array_equal(copy.deepcopy(curve).loss_triggered, curve.loss_triggered)
    slope = lc.backdoor_slope(lc.Logistic(), PROBLEM)
    assert pickle.loads(pickle.dumps(slope)).verify().relative_difference < 1e-9
