"""Clean-label sets: labels kept, trigger on top of the perturbation, source untouched, bad perturbations refused."""

import numpy as np
import pytest

from learningcurves.data.builtin import make_synthetic
from learningcurves.errors import LearningCurvesError
from learningcurves.poisoning.clean_label import poison_clean_label
from learningcurves.poisoning.patches import Checkerboard, SolidPatch

DATA = make_synthetic(3, n=60, image_shape=(1, 6, 6), seed=2)
TRIGGER = SolidPatch(2)


def darker(images, labels):
    assert (labels == 1).all()
    images *= 0.5  # writes into what it got: the data must not notice
    return images


def test_only_the_target_class_is_poisoned_and_keeps_its_labels():
    before = DATA.X_train.copy()
    problem = poison_clean_label(DATA, TRIGGER, 1, 0.5, perturb=darker, seed=4)
    facts = problem.provenance
    np.testing.assert_array_equal(DATA.X_train, before)
    assert (problem.y_backdoor == 1).all() and problem.n_backdoor == 10 and facts["n_target_class"] == 20
    assert facts["attack"] == "clean_label" and facts["rate_of"] == "target_class" and facts["include_target"]
    assert facts["fraction_of_target_class"] == 0.5 and facts["fraction_of_all"] == 10 / 60
    chosen = DATA.X_train[facts["indices"]]
    expected = TRIGGER.apply(0.5 * chosen, image_shape=(1, 6, 6))
    np.testing.assert_array_equal(problem.X_backdoor, expected)
    assert facts["perturbation"]["largest_change"] == pytest.approx(0.5 * chosen.max())
    assert (problem.y_source != 1).all() and (problem.y_triggered == 1).all()
    np.testing.assert_array_equal(
        problem.X_triggered, TRIGGER.apply(DATA.X_test[DATA.y_test != 1], image_shape=(1, 6, 6))
    )
    assert problem.n_clean == 50 and poison_clean_label(DATA, TRIGGER, 1, 1.0, mode="add").n_clean == 60


def test_the_sets_nest_and_nothing_is_perturbed_by_default():
    few, many = (poison_clean_label(DATA, Checkerboard(), 0, count=k, seed=1) for k in (3, 9))
    assert few.provenance["indices"] == many.provenance["indices"][:3]
    chosen = DATA.X_train[many.provenance["indices"]]
    np.testing.assert_array_equal(many.X_backdoor, Checkerboard().apply(chosen, image_shape=(1, 6, 6)))
    assert many.provenance["perturbation"] == {"perturb": None, "largest_change": 0.0}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: poison_clean_label(DATA, TRIGGER, 7, 0.5), "no class of the data"),
        (lambda: poison_clean_label(DATA, TRIGGER, "next", 0.5), "not one class"),
        (lambda: poison_clean_label(DATA, TRIGGER, {0: 1}, 0.5), "not one class"),
        (lambda: poison_clean_label(DATA, TRIGGER, 1, 1.0), "mode='add'"),
        (lambda: poison_clean_label(DATA, TRIGGER, 1, 0.9, rate_of="all"), "only 20 can be"),
        (lambda: poison_clean_label(DATA, TRIGGER, 1, 0.5, perturb=3), "expected a function"),
        (lambda: poison_clean_label(DATA, TRIGGER, 1, 0.5, perturb=lambda x, y: x + 1), "outside `value_range"),
        (lambda: poison_clean_label(DATA, TRIGGER, 1, 0.5, perturb=lambda x, y: x * np.nan), "outside `value_range"),
        (lambda: poison_clean_label(DATA, TRIGGER, 1, 0.5, perturb=lambda x, y: x[:2]), "of shape"),
        (lambda: poison_clean_label(DATA, TRIGGER, 1, 0.5, perturb=lambda x: x), "perturb"),
        (lambda: poison_clean_label(DATA, TRIGGER, 1, 0.5, mode="swap"), "mode"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(LearningCurvesError, match=says):
        call()
