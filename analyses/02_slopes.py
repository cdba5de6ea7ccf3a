"""Does the slope of the learning curve at beta = 0 say how well the backdoor will work, and which measure says it best?"""

# %% Question
import numpy as np
import pandas as pd
import study

import learningcurves as lc
from learningcurves.analysis import rank_correlation, rank_predictors, shortcut_slopes

QUESTION = __doc__
C = tuple(np.geomspace(1e-4, 1e3, 10).tolist())
MEASURES = ("minus_slope", "theta", "per_unit_weight", "relative", "area", "half_beta", "breakpoint")
VARIES = 0.1  # cells in which BK varies by more than this over seeds and triggers have something to predict


# %% Cells: five seeds, ten C, every learner
def cells(pairs, small=False):
    rows = []
    for pair in pairs:
        kind = study.kind_of(pair)
        triggers = [f"patch-{size}" for size in study.PATCHES[kind]]
        triggers += ["invisible-10"] if kind in ("cifar10", "digits") else []
        rows += [
            {"pair": pair, "trigger": trigger, "learner": name, "gamma": gamma, "fraction": 0.1, "seed": seed}
            for trigger in triggers
            for seed in study.SEEDS[: 2 if small else 3 if kind == "cifar10" else None]
            for name, gamma in study.learners(pair, rbf=trigger == triggers[0])  # kernels with the small patch only
        ]
    return rows


def measure(cell):
    """Slope and outcome at every C. Ridge has alpha = 1 / (2C), the paper's scaling of its loss."""
    problem = study.problem_of(cell)
    factor = 0.5 if cell["learner"] == "ridge" else 1.0
    small_patch = cell["trigger"] == f"patch-{study.PATCHES[study.kind_of(cell['pair'])][0]}"
    beta = study.NEAR_ZERO if small_patch else [0.0, 1.0]
    curves = lc.learning_curve(study.learner_of(cell), problem, beta, reg=[factor / c for c in C])
    rows = []
    for c, curve in zip(C, curves, strict=True):
        slope, loss = float(curve.slope[0]), float(curve.loss_triggered[0])
        row = {
            "C": c,
            "reg": curve.reg,
            "slope": slope,
            "theta": -2.0 / np.pi * np.arctan(slope),
            "per_unit_weight": -curve.reg * slope,
            "relative": -slope / loss,
            "breakpoint": float(curve.path.breakpoint[0]),
            "loss_0": loss,
            "loss_1": float(curve.loss_triggered[-1]),
            "bk_floor": curve.bk_floor,
            "bk": float(curve.bk[-1]),
            "accuracy_clean_0": float(curve.accuracy_clean[0]),
            "accuracy_clean": float(curve.accuracy_clean[-1]),
            "bound": float(curve.bound.max()),
        }
        if small_patch:
            row |= {"area": curve.area / loss, "half_beta": half_beta(curve)}
        if cell["pair"] in ("mnist:7-1", "digits:7-1") and "patch" in cell["trigger"] and cell["gamma"] is None:
            row |= {f"wrong_{name}": value for name, value in shortcut_slopes(curve).items()}
        rows.append(row)
    return rows


def half_beta(curve):
    """Return beta at half of the fall, by interpolation in log beta (the exact one is `curve.half_beta`)."""
    loss = np.minimum.accumulate(curve.loss_triggered)
    middle = 0.5 * (loss[0] + curve.loss_triggered[-1])
    if not loss[-1] < loss[0]:
        return float("nan")
    after = int(np.argmax(loss <= middle))
    if after == 1:  # between 0 and the first positive beta
        return float(curve.beta[1] * (loss[0] - middle) / (loss[0] - loss[1]))
    share = (loss[after - 1] - middle) / (loss[after - 1] - loss[after])
    return float(np.exp((1 - share) * np.log(curve.beta[after - 1]) + share * np.log(curve.beta[after])))


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
    patch = table[table.trigger.str.startswith("patch") & (table.learner != "rbf_svm")]
    for pair, group in patch[patch["wrong_exact"].notna()].groupby("pair", sort=False) if names else ():
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
    table = study.run(cells(options.pairs, options.small), measure, options.out, options.n_jobs)
    for kind in study.kinds(options.pairs):
        part = table[table.pair.map(study.kind_of) == kind].dropna(axis=1, how="all")
        kept = [c for c in part.columns if not c.startswith("wrong_")]
        study.write_table(part[kept].drop(columns=["fraction"]), options.tables, f"slopes_{kind}")
        study.write_table(means_over_seeds(part.assign(gamma=part.get("gamma"))), options.tables, f"means_{kind}")
        related = relations(part.assign(gamma=part.get("gamma")))
        study.write_table(related, options.tables, f"relations_{kind}", digits=4)
        if len(wrong := shortcuts(part)):
            study.write_table(wrong, options.tables, f"shortcuts_{kind}", digits=4)
        print(kind, finding(related))
