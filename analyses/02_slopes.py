"""Does the slope of the learning curve at beta = 0 say how well the backdoor will work, and which measure says it best?"""

# %% Question
import numpy as np
import pandas as pd
import study

from learningcurves.analysis import rank_correlation, rank_predictors, shortcut_slopes
from learningcurves.grid.tasks import curves_of, record

QUESTION = __doc__
C = [float(c) for c in np.geomspace(1e-4, 1e3, 10)]
BETA = [0.0, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0]  # for the area, dense where the curve is steep
MEASURES = ("minus_slope", "theta", "per_unit_weight", "relative", "area", "half_beta", "breakpoint")
VARIES = 0.1  # cells in which BK varies by more than this over seeds and triggers have something to predict


# %% Grids: five seeds, ten C, every learner
def grids(kind, pairs, seeds):
    """Whole curves with the patches (the RBF SVM: with the first), both ends of the curve with the invisible trigger."""
    values = C[::3] if kind == "digits" else C
    base = study.settings(kind, seeds) | {"data": pairs, "fraction": 0.1}
    first, *more = study.PATCHES[kind]
    # ridge has alpha = 1 / (2C), the paper's scaling of its loss
    learners = {
        "linear": {"learner": ["linear_svm", "logistic"], "reg": [1 / c for c in values]},
        "ridge": {"learner": "ridge", "reg": [0.5 / c for c in values]},
        "rbf": {"learner": "rbf_svm", "gamma": list(study.GAMMAS[kind]), "reg": [1 / c for c in values]},
    }
    whole = base | {"trigger": study.patches(kind, [first]), "beta": BETA}
    wanted = {f"{kind}-{name}": whole | keys for name, keys in learners.items()}
    linear = {name: learners[name] for name in ("linear", "ridge")}
    if more:
        larger = base | {"trigger": study.patches(kind, more), "beta": BETA}
        wanted |= {f"{kind}-{name}-larger": larger | keys for name, keys in linear.items()}
    if kind != "mnist":
        two = base | {"trigger": study.INVISIBLE, "beta": [0.0, 1.0]}
        wanted |= {f"{kind}-{name}-ends": two | keys for name, keys in linear.items()}
    return wanted


def shortcut_grids(kind, pairs, seeds):
    """The slope with each published shortcut, on the pair that the published slopes are of."""
    pair = [p for p in pairs if p.endswith(":7-1")]
    wanted = grids(kind, pair, seeds) if pair else {}
    both = {"trigger": study.patches(kind), "beta": [0.0, 1.0]}
    return {f"{name}-shortcuts": wanted[name] | both for name in (f"{kind}-linear", f"{kind}-ridge") if name in wanted}


def measure_shortcuts(task):
    """What the grid measures, and beside the slope at beta = 0 the wrong ones as ``wrong_...``."""
    found = []
    for cell, curve in zip(task.cells, curves_of(task), strict=True):
        kept = record(cell, curve)
        kept["rows"] |= {f"wrong_{name}": [value, np.nan] for name, value in shortcut_slopes(curve).items()}
        found.append(kept)
    return found


def one_row_a_run(table):
    """Return slope and outcome of every run; areas in units of the loss at beta = 0."""
    runs = study.ends(table).rename(columns={"loss_triggered": "loss_0", "loss_triggered_1": "loss_1"})
    runs = runs.rename(columns={"accuracy_clean": "accuracy_clean_0", "accuracy_clean_1": "accuracy_clean"})
    factor = np.where(runs.learner == "ridge", 0.5, 1.0)
    near = runs.grid.map(lambda g: not g.endswith(("-ends", "-shortcuts")))
    halves = table.groupby(["grid", "cell"], sort=False).apply(half_beta, include_groups=False).rename("half_beta")
    runs = runs.drop(columns="half_beta").join(halves, on=["grid", "cell"])
    return runs.assign(
        C=[C[int(np.argmin(np.abs(np.log(C) - np.log(c))))] for c in factor / runs.reg],
        per_unit_weight=-runs.per_unit_weight,
        area=(runs.area / runs.loss_0).where(near),
        half_beta=runs.half_beta.where(near),
    )


def half_beta(curve):
    """Return beta at half of the fall, by interpolation in log beta (the exact one, `curve.half_beta`, costs more)."""
    beta, loss = curve.beta.to_numpy(), np.minimum.accumulate(curve.loss_triggered.to_numpy())
    middle = 0.5 * (loss[0] + curve.loss_triggered.iloc[-1])
    if not loss[-1] < loss[0]:
        return float("nan")
    after = int(np.argmax(loss <= middle))
    share = (loss[after - 1] - middle) / (loss[after - 1] - loss[after])
    if after == 1:  # between 0 and the first positive beta
        return float(beta[1] * share)
    return float(np.exp((1 - share) * np.log(beta[after - 1]) + share * np.log(beta[after])))


COLUMNS = [
    "pair", "trigger", "learner", "gamma", "seed", "C", "reg", "slope", "theta", "per_unit_weight", "relative",
    "breakpoint", "loss_0", "loss_1", "bk_floor", "bk", "accuracy_clean_0", "accuracy_clean", "bound", "area",
    "half_beta", "status",
]  # fmt: skip


def means_over_seeds(table):
    """Return mean BK, accuracies and slope over the seeds: the numbers that others can check."""
    keys = ["pair", "trigger", "learner", "gamma", "C", "reg"]
    values = ["slope", "bk_floor", "bk", "accuracy_clean_0", "accuracy_clean"]
    return table.groupby(keys, dropna=False, sort=False)[values].mean().reset_index()


# %% Which measure predicts BK
def relations(table):
    """Rank correlations with BK and clean accuracy: pooled, at fixed learner and lambda, and over lambda in a run."""
    table = table.assign(minus_slope=-table.slope, lost=table.accuracy_clean_0 - table.accuracy_clean)
    table["learner_gamma"] = table.learner + table.gamma.map(lambda g: "" if pd.isna(g) else f" {g:g}")
    finite = table[table.trigger.str.startswith("patch")].replace([np.inf, -np.inf], np.nan)
    questions = {
        "pooled": {},
        "fixed learner and reg": {"within": ["learner_gamma", "reg"], "min_range": VARIES},
        "over reg in a run": {"within": ["learner_gamma", "trigger", "seed"], "min_range": VARIES},
    }
    rows = []
    for pair, group in finite.groupby("pair", sort=False):
        for question, how in questions.items():
            for target in ("bk", "accuracy_clean"):
                found = rank_predictors(group, MEASURES, target, repeat="seed", n_boot=300, **how)
                rows.append(found.assign(pair=pair, question=question))
    return pd.concat(rows, ignore_index=True)[
        ["pair", "question", "target", "predictor", "correlation", "low", "high", "n", "n_cells"]
    ]


def shortcuts(table):
    """Return what each published shortcut does to the slope: its ratio to the right one, and what it still predicts."""
    rows = []
    names = [c for c in table.columns if c.startswith("wrong_")]
    for pair, group in table.groupby("pair", sort=False):
        for name in names:
            # a shortcut that does not apply to a learner leaves that learner's slope as it is
            value = group[name].fillna(group["wrong_exact"])
            touched = group[name].notna()
            ratio = (group[name] / group["slope"])[touched & (group.slope != 0)]
            work = group.assign(minus=-value)
            inside = rank_correlation(
                work, "minus", "bk", within=["learner", "reg"], min_range=VARIES, repeat="seed", n_boot=300
            )
            pooled = rank_correlation(work, "minus", "bk", repeat="seed", n_boot=300)
            rows.append(
                {
                    "pair": pair, "shortcut": name.removeprefix("wrong_"),
                    "learners": " ".join(sorted(group.learner[touched].unique())),
                    "ratio_smallest": ratio.abs().min(), "ratio_median": ratio.abs().median(),
                    "ratio_largest": ratio.abs().max(), "share_sign_wrong": float((ratio < 0).mean()),
                    "inside": inside.value, "inside_low": inside.low, "inside_high": inside.high,
                    "pooled": pooled.value, "pooled_low": pooled.low, "pooled_high": pooled.high,
                    "n": pooled.n, "n_cells": inside.n_cells,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def finding(related):
    bk = related[related.target == "bk"]
    words = []
    for question, group in bk.groupby("question", sort=False):
        mean = group.groupby("predictor").correlation.mean().dropna()
        if "minus_slope" not in mean:
            continue  # BK varies in no cell: nothing to predict
        best = mean.abs().idxmax()
        words.append(f"{question}: {best} ({mean[best]:+.2f}; minus slope {mean['minus_slope']:+.2f})")
    return "The best rank correlation with BK, mean over pairs, is " + ", ".join(words) + "."


# %% Run, tables, finding
if __name__ == "__main__":
    options = study.arguments(QUESTION, "02", data=("mnist", "cifar10"))
    seeds = study.SEEDS[: 2 if options.small else options.seeds]
    for kind, pairs in study.by_kind(options.pairs).items():
        runs = one_row_a_run(study.grids(options, grids(kind, pairs, seeds)))
        study.write_table(runs[COLUMNS].dropna(axis=1, how="all"), options.tables, f"slopes_{kind}")
        study.write_table(means_over_seeds(runs), options.tables, f"means_{kind}")
        related = relations(runs)
        study.write_table(related, options.tables, f"relations_{kind}", digits=4)
        if wanted := shortcut_grids(kind, pairs, seeds):
            wrong = shortcuts(one_row_a_run(study.grids(options, wanted, measure_shortcuts)))
            study.write_table(wrong, options.tables, f"shortcuts_{kind}", digits=4)
        print(kind, finding(related))
    study.finish(options)
