"""The audit: exact counts, free outputs, redundant lines, violation rates, against enumeration."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from constraint_cases import PUBLISHED, SETS, as_text, every_label, formulas, published
from hypothesis import given, settings
from hypothesis import strategies as st

import learningcurves as lc
from learningcurves.constraints import clauses as clauses_module
from learningcurves.errors import InvalidInput


def check_audit(text, n):
    constraints = lc.load_constraints(text, n_variables=n)
    labels = every_label(n)
    hold = constraints.satisfied(labels)
    if not hold.any():
        return
    audit = lc.audit_constraints(constraints, labels)
    assert audit.n_models == hold.sum() == audit.n_satisfying
    flipped = [constraints.satisfied(labels ^ (np.arange(n) == i)) for i in range(n)]
    assert audit.free == tuple(i for i in range(n) if (flipped[i] == hold).all())
    for k, line in enumerate(constraints.lines):
        others = constraints.lines[:k] + constraints.lines[k + 1 :]
        rest = lc.Constraints(others).satisfied(labels) if others else np.ones(len(labels), bool)
        own = lc.Constraints((line,)).satisfied(labels)
        assert audit.redundant[k] == bool(own[rest].all())
        assert audit.n_violated[k] == (~own).sum()
    needed = tuple(line for line, n in zip(constraints.lines, audit.needed, strict=True) if n)
    if needed:
        np.testing.assert_array_equal(lc.Constraints(needed).satisfied(labels), hold)
    else:
        assert hold.all()
    return audit


@pytest.mark.parametrize("name", SETS)
def test_the_audit_agrees_with_enumeration(name):
    check_audit(SETS[name], 9)


@given(st.lists(formulas(4), min_size=1, max_size=4), st.sampled_from([2, 64]))
@settings(max_examples=100)
def test_random_audits_agree_with_enumeration(drawn, limit):
    before = clauses_module.MAX_CLAUSES
    clauses_module.MAX_CLAUSES = limit  # 2: nearly every formula needs auxiliary variables
    try:
        check_audit("\n".join(map(as_text, drawn)), 4)
    finally:
        clauses_module.MAX_CLAUSES = before


def test_frame_text_and_labels_of_either_coding():
    text = "Young >> Attractive\nYoung >> (Attractive | Male)\nMale | ~Male"
    names = ["Young", "Attractive", "Male", "Hat"]
    labels = np.array([[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 1]])
    audit = lc.audit_constraints(text, labels, names=names)
    frame = audit.to_frame()
    assert frame["violated"].tolist() == [0.5, 0.25, 0.0]
    assert frame["redundant"].tolist() == [False, True, True] and frame["needed"].tolist() == [True, False, False]
    assert audit.free_names == ("Male", "Hat") and audit.satisfied == 0.5 and audit.share_of_models == 0.75
    assert "50.0%" in str(audit) and "Male, Hat" in str(audit) and "12 of 2^4" in str(audit)
    for coded in (labels.astype(bool), 2 * labels - 1, labels.astype(float)):
        assert lc.audit_constraints(text, coded, names=names) == audit
    without = lc.audit_constraints(text, names=names)
    assert list(without.to_frame()) == ["line", "text", "redundant", "needed"] and np.isnan(without.satisfied)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((2, 3), 2), "`labels` holds 2"),
        (np.array([[0, -1, 1]]), "both -1 and 0"),
        (np.array([[np.nan, 0, 1]]), "`labels` holds nan"),
        (np.zeros(3), r"`labels` has shape \(3,\)"),
        (np.zeros((0, 3)), r"`labels` has shape \(0, 3\)"),
        (np.zeros((2, 2)), "line 1: output 2 does not exist"),
    ],
)
def test_wrong_labels_are_refused(labels, message):
    with pytest.raises(InvalidInput, match=message):
        lc.audit_constraints("X0 >> X2", labels)


@pytest.mark.parametrize("name", PUBLISHED)
def test_audit_of_the_published_sets(name):
    audit = lc.audit_constraints(lc.load_constraints(published(name), n_variables=40))
    assert audit.n_models == PUBLISHED[name]
    disjunction = max(range(len(audit.redundant)), key=lambda k: audit.constraints.lines[k].text.count("|"))
    assert audit.redundant[disjunction]
    assert len(audit.free) == {"base": 8, "targetless": 9, "target_focused": 34}[name]


def test_real_labels_violate_the_published_rules(celeba_labels):
    labels = celeba_labels[:20_000]
    base = lc.audit_constraints(published("base"), labels)
    assert base.satisfied == pytest.approx(0.380, abs=5e-4)
    focused = lc.audit_constraints(published("target_focused"), labels)
    assert focused.satisfied == pytest.approx(0.966, abs=5e-4)
    worst = base.to_frame().sort_values("n_violated").iloc[-1]
    assert worst["text"] == "X0.39 >> X0.2" and worst["violated"] == pytest.approx(0.298, abs=5e-4)


def test_the_page_says_what_the_script_finds(celeba_labels, tmp_path):
    folder, root = published("base").parent, Path(__file__).resolve().parents[2]
    page = tmp_path / "page.md"
    page.write_text(before := (root / "docs" / "semantic-loss.md").read_text())
    command = [sys.executable, root / "analyses" / "19_constraints.py", "--rules", folder]
    subprocess.run([*command, "--tables", tmp_path, "--page", page], check=True, timeout=120, capture_output=True)
    assert page.read_text() == before
    for name in ("constraints.csv", "constraint_windows.csv"):
        assert (tmp_path / name).read_text() == (root / "analyses" / "tables" / name).read_text()
