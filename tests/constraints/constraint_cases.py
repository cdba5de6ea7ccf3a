"""Small sets of constraints, the three published ones where they are at hand, and enumeration as the reference."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from learningcurves.constraints.formula import holds
from learningcurves.constraints.notation import load_constraints

SETS = {
    "implications": "X0 >> ~(X1 | X2)\nX3 | X1\n(X2 >> X4) & (X4 >> X2)",
    "exactly one": "X0 | X1 | X2 | X3\n" + "\n".join(f"~(X{i} & X{j})" for i in range(4) for j in range(i)),
    "tree": "\n".join(f"X{child} >> X{(child - 1) // 2}" for child in range(1, 9)),
    "forced": "X0\nX0 >> ~X3\nX1 | X2",
    "one literal": "~X2",
    "nested": "(X0 & X1 | ~(X2 >> X3)) >> ((X4 | ~X5) & ~(X1 & X5))\n~(X0 >> (X3 & X4))",
    "parity": "(X0 & ~X1 | ~X0 & X1) >> ~(X2 & ~X3 | ~X2 & X3)\n(X2 | X4) >> ~(X4 & X0)",
    "tautology": "X0 | ~X0\nX1 >> X1",
}
PUBLISHED = {"base": 46_107_648, "targetless": 55_105_536, "target_focused": 309_237_645_312}  # models over 2^40


def every_label(n):
    """All label vectors of n outputs, boolean (2^n, n)."""
    return np.array(list(itertools.product([False, True], repeat=n))).reshape(2**n, n)


def models(text, n):
    """Label vectors that satisfy all lines, by enumeration."""
    labels = every_label(n)
    return labels[load_constraints(text).satisfied(labels)]


def published(name):
    """Path of a published set, or skip."""
    roots = [Path(os.environ["LEARNINGCURVES_DATA"]).parent] if os.environ.get("LEARNINGCURVES_DATA") else []
    checkout = Path(__file__).resolve().parents[2]
    for root in [*roots, checkout / "shared", checkout.parent / "shared"]:
        if (path := root / "reference" / "constraints" / f"{name}.txt").is_file():
            return path
    pytest.skip("needs the published constraint sets beside the data folder (LEARNINGCURVES_DATA)")


def formulas(n):
    """Random formulas over n outputs, as hypothesis draws them."""
    return st.recursive(
        st.tuples(st.just("var"), st.integers(0, n - 1)),
        lambda part: st.one_of(
            st.tuples(st.just("not"), part),
            st.tuples(st.just("implies"), part, part),
            st.lists(part, min_size=2, max_size=3).map(lambda parts: ("and", *parts)),
            st.lists(part, min_size=2, max_size=3).map(lambda parts: ("or", *parts)),
        ),
        max_leaves=8,
    )


def as_text(formula):
    """A formula in the notation, fully parenthesised."""
    kind, *parts = formula
    if kind == "var":
        return f"X0.{parts[0]}"
    if kind == "not":
        return f"~({as_text(parts[0])})"
    sign = {"implies": " >> ", "and": " & ", "or": " | "}[kind]
    return sign.join(f"({as_text(part)})" for part in parts)


def satisfied_by_python(formula, row):
    """Value of a formula by Python's own operators, independent of `holds`."""
    kind, *parts = formula
    if kind == "var":
        return bool(row[parts[0]])
    values = [satisfied_by_python(part, row) for part in parts]
    return {
        "not": lambda: not values[0],
        "implies": lambda: values[1] if values[0] else True,
        "and": lambda: all(values),
        "or": lambda: any(values),
    }[kind]()


__all__ = ["PUBLISHED", "SETS", "as_text", "every_label", "formulas", "holds", "models", "published"]
