"""The statistics of SODA against the paper's worked examples, loops, and a published table of its false positives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learningcurves.defences.soda_index import (
    class_correlation,
    false_positive_rate,
    find_victim,
    mad_index,
    null_indices,
    null_threshold,
)
from learningcurves.errors import InvalidInput

# Sun et al., examples 3.2 and 3.3
CORRELATIONS = [0.69, 0.64, 0.72, 0.45, 0.71, 0.69, 0.67, 0.74, 0.60, 0.66]
ACTIVATIONS = [-1.37, -2.12, 0.24, np.nan, -2.55, 1.08, -2.27, -0.29, 1.67, -1.11]  # of class 3, by source class


def test_the_papers_example_of_a_target():
    index = mad_index(CORRELATIONS)
    assert np.argmin(index) == 3
    assert round(index[3], 2) == -4.43
    assert round(np.sort(index)[1], 2) == -1.54


def test_the_papers_example_of_a_victim_is_named_by_the_fallback_alone():
    victim = find_victim(ACTIVATIONS, 3)
    assert victim.label == 8
    assert round(victim.index[8], 2) == 1.62
    assert not victim.flagged.any()
    assert "none stands out" in victim.rule
    assert np.isnan(victim.index[3])


@given(
    st.lists(st.floats(-5, 5), min_size=5, max_size=12, unique=True),
    st.floats(0.1, 10),
    st.floats(-3, 3),
    st.sampled_from((-1, 1)),
)
def test_the_index_has_no_unit(values, scale, shift, sign):
    values = np.round(np.array(values), 3)
    index = mad_index(values)
    moved = mad_index(sign * scale * values + shift)
    if np.isfinite(index).all() and np.median(np.abs(values - np.median(values))) > 1e-2:
        np.testing.assert_allclose(moved, sign * index, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(np.median(index), 0, atol=1e-12)
        np.testing.assert_allclose(np.median(np.abs(index)), 1 / 1.4826, rtol=1e-12)


@pytest.mark.parametrize(
    "values", ([1.0, 1, 1, 1, 9], [0.3] * 8, [0.1, 0.1 + 1e-17, 0.1, 5.0], [1.0, 2.0], [], [np.nan] * 6)
)
def test_no_scale_no_index(values):
    assert np.isnan(mad_index(values)).all()


def test_an_unknown_value_leaves_the_others_alone():
    known = mad_index(CORRELATIONS)
    with_gap = mad_index([*CORRELATIONS[:5], np.nan, *CORRELATIONS[5:]])
    np.testing.assert_array_equal(np.delete(with_gap, 5), known)
    assert np.isnan(with_gap[5])


def test_class_correlation_is_that_of_a_loop():
    attribution = np.random.default_rng(0).random((3, 20, 6))
    found = class_correlation(attribution)
    for j in range(3):
        for c in range(6):
            others = np.delete(attribution[j], c, axis=1).mean(axis=1)
            assert found[j, c] == pytest.approx(np.corrcoef(attribution[j][:, c], others)[0, 1], abs=1e-12)
    one = np.broadcast_to(attribution[0], (4, 20, 6))
    np.testing.assert_array_equal(class_correlation(one), np.repeat(found[:1], 4, axis=0))


def test_a_class_that_no_neuron_moves_has_no_correlation():
    attribution = np.random.default_rng(0).random((1, 20, 6))
    attribution[:, :, 2] = 0.37
    found = class_correlation(attribution)[0]
    assert np.isnan(found[2]) and np.isfinite(np.delete(found, 2)).all()


# classes: P(some class flagged) at 2, 3, 3.5, 5; threshold for 5 % and 1 % (20,000 draws of another program)
TABLE = {
    5: (0.275, 0.152, 0.116, 0.063, 5.70, 13.4),
    10: (0.331, 0.115, 0.069, 0.018, 3.84, 5.76),
    20: (0.447, 0.112, 0.053, 0.006, 3.55, 4.63),
    43: (0.639, 0.128, 0.048, 0.002, 3.48, 4.31),
}


@pytest.mark.parametrize("n_classes", TABLE)
def test_the_rule_flags_clean_networks_as_often_as_it_is_known_to(n_classes):
    *rates, five, one = TABLE[n_classes]
    found = [false_positive_rate(n_classes, t) for t in (2, 3, 3.5, 5)]
    # two simulations of 20,000: 4 standard errors of their difference
    for rate, expected in zip(found, rates, strict=True):
        assert rate == pytest.approx(expected, abs=4 * np.sqrt(2 * expected * (1 - expected) / 20_000) + 5e-4)
    assert null_threshold(n_classes, 0.05) == pytest.approx(five, rel=0.05)
    assert null_threshold(n_classes, 0.01) == pytest.approx(one, rel=0.12)


@pytest.mark.parametrize("fpr", (0.01, 0.05, 0.5))
def test_threshold_and_rate_are_inverse(fpr):
    assert false_positive_rate(10, null_threshold(10, fpr)) == pytest.approx(fpr, abs=1e-4)


def test_the_null_is_the_index_of_gaussian_values():
    draws = null_indices(7, 200, seed=3)
    assert not draws.flags.writeable and np.all(np.diff(draws) >= 0)
    from learningcurves.streams import generator

    values = generator(3, use="soda_null", n_classes=7).normal(size=(200, 7))
    np.testing.assert_allclose(draws, np.sort([-mad_index(v).min() for v in values]), rtol=1e-12)


def test_a_rate_too_small_for_the_simulation_is_refused():
    with pytest.raises(InvalidInput, match="fpr=1e-05.*n_draws"):
        null_threshold(10, 1e-5)


def test_among_several_victims_the_one_that_does_not_look_alike():
    activation = np.array([-2.0, -2.1, -1.9, np.nan, -2.05, 3.0, 4.0, -1.95, -2.02])
    reverse = np.array([0.0, 0, 0, 9, 0, -4.0, 2.5, 0, 0])
    found = find_victim(activation, 3, reverse=reverse)
    assert found.flagged[[5, 6]].all() and found.label == 5  # 6 is activated more, but the target looks like it too
    assert find_victim(activation, 3).label == 6
    one = find_victim(np.where(np.arange(9) == 5, np.nan, activation), 3, reverse=reverse)
    assert one.label == 6 and one.rule == "one class stands out"


def test_the_targets_own_activation_is_not_looked_at():
    values = np.array([0.0, 1.0, 99.0, 0.5, 0.2])
    for own in (99.0, np.nan, -99.0):
        values[2] = own
        found = find_victim(values, 2)
        assert found.label == 1


def test_no_victim_among_too_few():
    assert find_victim([1.0, np.nan, np.nan], 1).label is None
