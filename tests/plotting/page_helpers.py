"""A small real table for the tests of the results page, with failures put into it."""

import numpy as np
import pandas as pd

import learningcurves as lc

REGS = (0.1, 1.0, 10.0, 100.0)
FRACTIONS = (0.05, 0.1)
EVIL = "<script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"
FACTS = ["beta", "loss_triggered", "loss_clean", "bk", "accuracy_clean", "slope", "rho", "nu", "bound"]


def make_table() -> pd.DataFrame:
    """Return the curves of two learners on digits: a row per cell and beta, 16 cells, none failed."""
    data = lc.load_digits_pair(7, 1)
    tables = []
    for fraction in FRACTIONS:
        problem = lc.poison(data, lc.RandomPatch(size=2, per_class=True, seed=1), fraction=fraction, seed=1)
        for name, learner in (("logistic", lc.Logistic), ("ridge", lc.Ridge)):
            for reg in REGS:
                curve = lc.learning_curve(learner(reg=reg), problem, beta=[0.0, 0.1, 0.3, 1.0])
                cell = {"data": "digits:7-1", "learner": name, "reg": reg, "fraction": fraction}
                tables.append(curve.to_frame().assign(**cell, status="ok", message=""))
    return pd.concat(tables, ignore_index=True)


def with_failures(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with one cell that failed whole, and one that failed at its largest beta."""
    table = table.copy()
    whole = table.index[_cell(table, "ridge", 10.0, 0.1)]
    table = table.drop(whole[1:])
    table.loc[whole[0], FACTS] = np.nan
    table.loc[whole[0], ["status", "message"]] = ["singular", f"no answer {EVIL}"]
    last = table.index[_cell(table, "logistic", 0.1, 0.05) & (table["beta"] == 1.0)]
    table.loc[last, FACTS[1:]] = np.nan
    table.loc[last, ["status", "message"]] = ["max_steps", "step limit reached"]
    return table


def _cell(table, learner, reg, fraction):
    return (table["learner"] == learner) & (table["reg"] == reg) & (table["fraction"] == fraction)
