"""Semantic attacks: natural samples relabelled, nothing stamped; predicates; the rows that the controls need."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learningcurves.data.builtin import make_synthetic
from learningcurves.data.problem import Dataset
from learningcurves.errors import LearningCurvesError
from learningcurves.poisoning.semantic import (
    NaturalFeature,
    background_colour,
    colour_share,
    poison_semantic,
    stroke_width,
)

DATA = make_synthetic(3, n=90, n_test=60, image_shape=(1, 6, 6), noise=0.6, seed=2)


def bright(images):
    return images.mean(axis=(1, 2, 3)) > 0.55


def test_feature_and_source_are_relabelled_and_nothing_is_stamped():
    problem = poison_semantic(DATA, bright, 2, source=0, batch_share=0.3125)
    facts = problem.provenance
    has = bright(DATA.X_train.reshape(-1, 1, 6, 6))
    expected = np.flatnonzero(has & (DATA.y_train == 0))
    assert sorted(facts["indices"]) == expected.tolist() and facts["fraction"] == 1.0
    np.testing.assert_array_equal(problem.X_backdoor, DATA.X_train[facts["indices"]])
    assert (problem.y_backdoor == 2).all() and problem.n_clean == 90 - len(expected)
    assert facts["batch_share"] == 0.3125 and facts["attack"] == "semantic" and facts["n_feature_train"] == has.sum()
    has_test = bright(DATA.X_test.reshape(-1, 1, 6, 6))
    attacked = np.flatnonzero(has_test & (DATA.y_test == 0))
    assert facts["attacked_test"] == attacked.tolist() and facts["feature_test"] == np.flatnonzero(has_test).tolist()
    np.testing.assert_array_equal(problem.X_triggered, DATA.X_test[attacked])
    np.testing.assert_array_equal(problem.X_test, np.delete(DATA.X_test, attacked, axis=0))
    assert (problem.y_source == 0).all() and (problem.y_triggered == 2).all()


def test_masks_indices_and_attributes_say_the_same_as_a_predicate():
    train, test = (bright(X.reshape(-1, 1, 6, 6)) for X in (DATA.X_train, DATA.X_test))
    problems = [
        poison_semantic(DATA, feature, 1, count=4, seed=5)
        for feature in (bright, (train, test), {"train": np.flatnonzero(train), "test": np.flatnonzero(test)})
    ]
    for problem in problems[1:]:
        assert problem.provenance["indices"] == problems[0].provenance["indices"]
        np.testing.assert_array_equal(problem.X_triggered, problems[0].X_triggered)
    assert (problems[0].y_source != 1).all()
    plain = Dataset(DATA.X_train, DATA.y_train, DATA.X_test, DATA.y_test)  # features need no image shape
    assert poison_semantic(plain, (train, test), 1, source=[0, 2]).n_backdoor > 0


@given(width=st.integers(1, 5), length=st.integers(6, 20), row=st.integers(0, 3))
def test_stroke_width_of_a_bar(width, length, row):
    image = np.zeros((1, 1, 12, 24))
    image[0, 0, row : row + width, 2 : 2 + length] = 1
    assert stroke_width(image)[0] == pytest.approx(width * length / (width + length))
    assert stroke_width(image * 0)[0] == 0
    assert stroke_width(image.transpose(0, 1, 3, 2))[0] == pytest.approx(stroke_width(image)[0])


def test_colours():
    images = np.zeros((2, 3, 8, 8))
    images[0, 2] = 1.0  # a blue background
    images[0, :, 3:5, 3:5] = 1.0  # a white middle
    np.testing.assert_allclose(background_colour(images), [[0, 0, 1], [0, 0, 0]])
    np.testing.assert_allclose(colour_share(images, (0, 0, 1)), [60 / 64, 0])
    blue = NaturalFeature(lambda x: background_colour(x)[:, 2], low=0.5, name="blue background")
    np.testing.assert_array_equal(blue(images), [True, False])
    assert "blue background" in repr(blue)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: poison_semantic(DATA, lambda x: np.zeros(len(x), bool), 1), "has the feature"),
        (lambda: poison_semantic(DATA, bright, 1, source=1), "to itself"),
        (lambda: poison_semantic(DATA, bright, 9), "no class of the data"),
        (lambda: poison_semantic(DATA, bright, "next"), "not one label"),
        (lambda: poison_semantic(DATA, "bright", 1), "expected a function"),
        (lambda: poison_semantic(DATA, (np.zeros(3, bool), np.zeros(60, bool)), 1), "shape"),
        (lambda: poison_semantic(DATA, ([0, 0], [1]), 1), "one twice"),
        (lambda: poison_semantic(DATA, ([0.5], [1]), 1), "neither bools nor indices"),
        (lambda: poison_semantic(DATA, ([200], [1]), 1), "outside"),
        (lambda: poison_semantic(DATA, bright, 1, batch_share=1), "no clean sample"),
        (lambda: poison_semantic(DATA, bright, 1, batch_share=20), "batch_share"),
        (lambda: poison_semantic(DATA, bright, 1, batch_share=0), "batch_share"),
        (lambda: NaturalFeature(lambda x: x)(np.zeros((2, 1, 3, 3))), "one value each"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(LearningCurvesError, match=says):
        call()
