"""Built-in data and the draws: proportions, nesting, and independence from what they must not depend on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from learningcurves.data.builtin import load_digits_classes, load_digits_pair, make_synthetic
from learningcurves.data.split import paper_test, paper_train, stratified_order
from learningcurves.errors import InvalidInput


def rows(X):
    return {row.tobytes() for row in X}


def test_digits_pair_holds_the_right_pictures():
    data = load_digits_pair(7, 1)
    digits = load_digits()
    for X, y in ((data.X_train, data.y_train), (data.X_test, data.y_test)):
        for label, digit in ((0, 7), (1, 1)):
            assert rows(X[y == label]) <= rows(digits.data[digits.target == digit] / 16)
    n_pair = np.isin(digits.target, (7, 1)).sum()
    assert len(data.y_train) + len(data.y_test) == n_pair
    assert not rows(data.X_train) & rows(data.X_test)
    assert data.class_names == ("7", "1") and data.image_shape == (1, 8, 8) and data.value_range == (0.0, 1.0)
    assert abs(data.y_train.mean() - data.y_test.mean()) < 0.01  # stratified


def test_digits_draws_nest_and_share_the_test_set():
    small, large = load_digits_pair(3, 8, n_train=60, seed=4), load_digits_pair(3, 8, seed=4)
    np.testing.assert_array_equal(small.X_train, large.X_train[:60])
    np.testing.assert_array_equal(small.X_test, large.X_test)


def test_swapping_a_pair_swaps_labels_only():
    one, two = load_digits_pair(7, 1, n_train=51), load_digits_pair(1, 7, n_train=51)
    np.testing.assert_array_equal(one.X_train, two.X_train)
    np.testing.assert_array_equal(one.y_train, 1 - two.y_train)


def test_seed_changes_the_draw_and_nothing_else_does():
    same = load_digits_pair(7, 1, seed=3)
    state = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(same.X_train, load_digits_pair(7, 1, seed=3).X_train)
    assert not np.array_equal(same.X_train, load_digits_pair(7, 1, seed=2).X_train)
    np.testing.assert_array_equal(state, np.random.get_state()[1])


def test_all_digits():
    data = load_digits_classes()
    assert len(data.classes) == 10 and len(data.y_train) + len(data.y_test) == 1797


@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=5),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_every_beginning_is_in_proportion(counts, seed, data):
    y = np.repeat(np.arange(len(counts)), counts)
    order = stratified_order(y, seed, use="test")
    assert sorted(order) == list(range(len(y)))
    n = data.draw(st.integers(1, len(y)))
    drawn = np.bincount(y[order[:n]], minlength=len(counts))
    exact = n * np.array(counts) / len(y)
    # up to place t class c has n_c t samples within 1/2, so all K classes n t within K/2; put together:
    assert np.all(np.abs(drawn - exact) <= 0.5 + 0.5 * len(counts) * np.array(counts) / len(y) + 1e-9)


def test_paper_draw_is_the_released_one_in_its_own_words():
    pool = np.arange(5000)[np.random.default_rng(0).random(5000) < 0.5]  # any file order
    rng = np.random.RandomState(999)
    idx = pool[rng.choice(len(pool), 1501, replace=False)]
    rng.seed(999)
    train = idx[rng.permutation(1501)][1:]
    np.testing.assert_array_equal(pool[paper_train(np.zeros(len(pool)))], train)
    y = np.array([0, 1] * 300)
    np.testing.assert_array_equal(paper_test(y), np.r_[np.arange(0, 500, 2), np.arange(1, 500, 2)])
    with pytest.raises(InvalidInput, match="draw='random'"):
        paper_train(np.zeros(1500))


def test_synthetic():
    data = make_synthetic(4, n=101, n_test=17, image_shape=(2, 3, 5), seed=1)
    assert data.X_train.shape == (101, 30) and data.X_test.shape == (17, 30)
    assert data.X_train.min() >= 0 and data.X_train.max() <= 1
    assert np.bincount(data.y_train).tolist() == [26, 25, 25, 25]
    more = make_synthetic(4, n=202, n_test=17, image_shape=(2, 3, 5), seed=1)
    np.testing.assert_array_equal(more.X_train[:101], data.X_train)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: load_digits_pair(7, 7), "different"),
        (lambda: load_digits_pair(7, 10), "not one of the digits"),
        (lambda: load_digits_pair(7, 1.0), "not one of the digits"),
        (lambda: load_digits_pair(7, True), "not one of the digits"),
        (lambda: load_digits_pair(7, 1, n_train=10_000), "Ask for at most"),
        (lambda: load_digits_pair(7, 1, n_train=1), "at least one sample a class"),
        (lambda: load_digits_pair(7, 1, seed=-1), "`seed=-1`"),
        (lambda: load_digits_classes([3]), "at least two"),
        (lambda: load_digits_classes(3), "not a sequence"),
        (lambda: make_synthetic(1), "`n_classes=1`"),
        (lambda: make_synthetic(3, n=2), "`n=2`"),
        (lambda: make_synthetic(3, image_shape=(6, 6)), "channels, height, width"),
        (lambda: make_synthetic(3, image_shape=(1, 0, 6)), "image_shape"),
        (lambda: make_synthetic(3, noise=float("nan")), "noise"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(InvalidInput, match=says):
        call()
