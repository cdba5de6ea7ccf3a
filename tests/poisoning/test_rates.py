"""What a rate is a share of, who can be chosen, and the record; the conventions of other projects as known answers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learningcurves.data.builtin import make_synthetic
from learningcurves.errors import InvalidInput, LearningCurvesError
from learningcurves.poisoning.backdoor import poison
from learningcurves.poisoning.patches import SolidPatch
from learningcurves.poisoning.selection import RATES_OF, select

DATA = make_synthetic(4, n=83, image_shape=(1, 4, 4), seed=2)
N_TARGET = int((DATA.y_train == 2).sum())


def facts_of(**options):
    return poison(DATA, SolidPatch(2), labels=2, seed=3, **options).provenance


@pytest.mark.parametrize("include_target", [False, True])
@pytest.mark.parametrize("rate_of", RATES_OF)
@pytest.mark.parametrize("fraction", [0.05, 0.29, 0.5])
def test_the_count_is_the_share_of_what_was_said(rate_of, fraction, include_target):
    facts = facts_of(fraction=fraction, rate_of=rate_of, include_target=include_target)
    candidates = 83 if include_target else 83 - N_TARGET
    base = {"candidates": candidates, "all": 83, "target_class": N_TARGET}[rate_of]
    k = math.floor(base * fraction + 1e-9)
    assert facts["n_poison"] == k == len(facts["indices"])
    assert facts["n_candidates"] == candidates and facts["n"] == 83 and facts["n_target_class"] == N_TARGET
    assert facts["fraction_of_candidates"] == k / candidates
    assert facts["fraction_of_all"] == k / 83
    assert facts["fraction_of_target_class"] == k / N_TARGET
    assert facts["seed"] == 3 and facts["rate_of"] == rate_of and facts["include_target"] == include_target
    by_class = dict(map(tuple, facts["n_poison_by_class"]))
    assert sum(by_class.values()) == k
    assert by_class == {
        c: m for c, m in zip(*np.unique(DATA.y_train[facts["indices"]], return_counts=True), strict=True)
    }
    assert include_target or 2 not in by_class


def test_target_samples_are_stamped_but_keep_their_label_and_stay_out_of_the_triggered_set():
    problem = poison(DATA, SolidPatch(2), 0.6, labels=2, include_target=True, seed=3)
    chosen = np.array(problem.provenance["indices"])
    assert (DATA.y_train[chosen] == 2).any() and (problem.y_backdoor == 2).all()
    assert (problem.X_backdoor.reshape(-1, 4, 4)[:, 2:, 2:] == 1).all()
    assert (problem.y_source != 2).all() and len(problem.y_source) == int((DATA.y_test != 2).sum())
    partial = poison(DATA, SolidPatch(2), 0.6, labels={0: 2, 2: 1}, include_target=True, seed=3)
    by_class = dict(map(tuple, partial.provenance["n_poison_by_class"]))
    assert set(by_class) == {0, 1, 2}  # 1 is a target only, so it stays what it is; 2 moves, though it is a target too
    ones = DATA.y_train[partial.provenance["indices"]] == 1
    assert (partial.y_backdoor[ones] == 1).all()
    assert "n_target_class" in partial.provenance


@given(fraction=st.floats(0.0, 1.0), rate_of=st.sampled_from(RATES_OF), seed=st.integers(0, 99))
def test_no_sample_is_drawn_twice(fraction, rate_of, seed):
    # ART's clean-label attack draws with replacement, so its nominal rate is higher than the real one
    try:
        chosen = select(np.arange(7, 40), 60, 20, fraction=fraction, rate_of=rate_of, seed=seed)
    except InvalidInput as error:
        assert "is no sample" in str(error) or "only 33 can be poisoned" in str(error)
        return
    assert len(np.unique(chosen.indices)) == chosen.n_poison
    assert np.isin(chosen.indices, np.arange(7, 40)).all()


def test_conventions_of_other_projects_on_balanced_data():
    """1,000 samples of ten classes at 10 %: what each project would poison, stated in our terms (docs/attacks.md)."""
    data = make_synthetic(10, n=1000, image_shape=(1, 3, 3), seed=1)

    def n_poison(**options):
        return poison(data, SolidPatch(1), labels=0, seed=0, **options).provenance

    anp = n_poison(fraction=0.1)  # int(r * candidates), target class not among them
    assert anp["n_poison"] == 90 and anp["fraction_of_all"] == 0.09
    bench = n_poison(fraction=0.1, rate_of="all", include_target=True)  # round(r * all), target class among them
    assert bench["n_poison"] == 100
    useless = dict(map(tuple, bench["n_poison_by_class"])).get(0, 0)
    assert 0 < useless < 25  # about a tenth of them are stamped without a new label
    assert n_poison(fraction=0.1, rate_of="all")["n_poison"] == 100
    assert n_poison(fraction=0.5, rate_of="target_class")["n_poison"] == 50


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: facts_of(fraction=0.5, rate_of="class"), "rate_of"),
        (lambda: facts_of(fraction=0.9, rate_of="all"), "only 62 can be"),
        (lambda: facts_of(fraction=0.01, rate_of="target_class"), "samples of the target class is no sample"),
        (lambda: select([], 5, 1, count=0), "no training sample"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(LearningCurvesError, match=says):
        call()
