"""Do our numbers equal the published ones where both exist, and what are the curves of the other pairs?"""

# %% Question
import numpy as np
import pandas as pd
import study

import learningcurves as lc

QUESTION = __doc__
BETA = (0, .01, .02, .03, .04, .05, .06, .08, .10, .13, .16, .19, .24, .29, .36, .44, .54, .66, .81, .99, 1.0)  # fmt: skip
# (learner, gamma, lambda) of the released curves
CURVES = [
    ("linear_svm", None, 100.0), ("linear_svm", None, 0.1), ("logistic", None, 10.0), ("logistic", None, 0.01),
    ("ridge", None, 1000.0), ("ridge", None, 1.0), ("rbf_svm", 5e-4, 1.0), ("rbf_svm", 5e-4, 0.01),
    ("rbf_svm", 5e-3, 1.0), ("rbf_svm", 5e-3, 0.01),
]  # fmt: skip
C_LINEAR = tuple(np.geomspace(1e-4, 1e3, 10).tolist())
C_RBF = tuple(np.geomspace(0.1, 100, 10).tolist())
GAMMAS = tuple(np.geomspace(5e-4, 5e-2, 5).tolist())
# dL/dbeta at 0, MNIST 7-1, 3x3, seed 1, from an independent program; it agrees with refits to 2e-9
INDEPENDENT_SLOPES = {
    "logistic": (-2.78299e-2, -1.05151, -5.62882, -29.9551, -159.325, -870.094),
    "ridge": (-0.379387, -3.43742, -17.2172, -100.153, -600.347, -3603.88),
    "linear_svm": (-5.15599e-2, -0.748458, -4.79869, -20.6507, -116.931, -700.983),
}
C_SLOPES = (1e-4, 3.593814e-3, 2.154435e-2, 0.1291550, 0.7742637, 4.641589)
# the same program, corrected RBF SVM, 3x3, seed 999, lambda = 0.01: (gamma, beta, rho or nu)
INDEPENDENT_DEVIATION = [
    (5e-4, "rho", 0.0, 52.48), (5e-4, "rho", 0.54, 113.75), (5e-4, "rho", 1.0, 156.11), (5e-4, "nu", 1.0, 0.398),
    (5e-3, "rho", 0.0, 25.37), (5e-3, "rho", 1.0, 57.29), (5e-3, "nu", 1.0, 0.278),
]  # fmt: skip


# %% Grids: the released conventions, which differ between curves and slopes
FACTOR = {"ridge": 2.0}  # released ridge: loss (1 - yf)^2 with alpha = 1 / (2C), twice our loss at reg = 1 / (2C)


def grids(kind, pairs, small):
    """Return the grids of the curves (all pairs), and those of accuracies and slopes (the first pair)."""
    gammas = list(GAMMAS[::4] if small else GAMMAS)
    base = study.settings(kind) | {"trigger": study.patches(kind)}
    curves = base | {"data": pairs, "fraction": [0.1] if small else [0.01, 0.1, 0.2], "beta": list(BETA)}
    wanted = {}
    for name, gamma in dict.fromkeys((name, gamma) for name, gamma, _ in CURVES):
        keys = curves | {
            "learner": name,
            "reg": [r / FACTOR.get(name, 1.0) for n, g, r in CURVES if (n, g) == (name, gamma)],
        }
        # released curves of the linear SVM penalise the intercept (LinearSVC); their slopes do not (libsvm)
        keys |= {"penalize_intercept": True} if name == "linear_svm" else {"gamma": gamma} if gamma else {}
        wanted["-".join(map(str, ("curve", name, *([gamma] if gamma else []))))] = keys
    runs = base | {"data": pairs[0], "fraction": 0.1, "beta": [0.0, 1.0]}
    linear, kernel = (study.settings(kind, study.SEEDS[: 1 if small else n]) for n in (None, 2))  # kernels: two of five
    for name in study.LINEAR:
        reg = [1 / (FACTOR.get(name, 1.0) * c) for c in C_LINEAR]
        wanted[f"accuracy-{name}"] = runs | linear | {"learner": name, "reg": reg}
    rbf = {"learner": "rbf_svm", "gamma": gammas, "reg": [1 / c for c in C_RBF]}
    return wanted | {"accuracy-rbf_svm": runs | kernel | rbf}


def released(table):
    """Return curves and runs in the units of the released files: their lambda, C and loss."""
    factor = table.learner.map(lambda name: FACTOR.get(name, 1.0))
    curve = table[table.grid.str.startswith("curve")]
    curve = curve.assign(**{"lambda": (curve.reg * factor).round(10)})
    for name in ("loss_triggered", "loss_clean"):
        curve[name] *= factor
    runs = study.ends(table[table.grid.str.startswith("accuracy")])
    runs = runs.rename(columns={"accuracy_clean": "accuracy_clean_0", "accuracy_clean_1": "accuracy_clean"})
    runs["slope"] *= factor
    return curve, runs.assign(C=1 / (factor * runs.reg))


def clean_accuracies(pair, small):
    """Return the clean accuracy of models of all 1500 clean samples, as the released runs have it."""
    patch = lc.RandomPatch(size=2, draw="paper")
    kind, name = pair.split(":")
    digits = map(int, name.split("-"))
    data = lc.load_digits_pair(*digits) if kind == "digits" else lc.load_mnist_pair(*digits, draw="paper")
    problem = lc.poison(data, patch, 0.0, draw="paper")
    rows = []
    for learner in study.LINEAR if small else (*study.LINEAR, "rbf_svm"):
        values, factor = C_RBF if learner == "rbf_svm" else C_LINEAR, FACTOR.get(learner, 1.0)
        for gamma in GAMMAS if learner == "rbf_svm" else [None]:
            reg = [1 / (factor * c) for c in values]
            curves = lc.learning_curve(study.learner_of(learner, gamma), problem, [0.0], reg=reg)
            rows += [
                {"learner": learner, "gamma": gamma, "C": c, "accuracy_all": float(curve.accuracy_clean[0])}
                for c, curve in zip(values, curves, strict=True)
            ]
    return pd.DataFrame(rows)


# %% Beside the published files
def compare(curves, runs, clean):
    """One row a group of published numbers: how many, and how far ours are."""
    folder, names = study.reference_folder(), {"svm": "linear_svm", "svm-rbf": "rbf_svm"}
    ours, runs = curves[curves.pair == "mnist:7-1"], runs[runs.pair == "mnist:7-1"]
    rows = []

    def add(source, learner, quantity, published, mine, tolerance, relative=False):
        gap = np.abs(np.asarray(mine, float) - np.asarray(published, float))
        gap = gap / np.abs(published) if relative else gap
        rows.append(
            {
                "source": source, "learner": learner, "quantity": quantity, "n": len(gap), "tolerance": tolerance,
                "relative": relative, "largest_difference": gap.max(), "mean_difference": gap.mean(),
                "share_within": float((gap <= tolerance).mean()),
            }
        )  # fmt: skip

    released = pd.read_csv(folder / "slopes_mnist_7-1.csv").replace({"learner": names})
    released["trigger"] = "patch-" + released.trigger.str[-1]
    released = _keyed(released)
    mine, clean = (_keyed(frame) for frame in (runs, clean))
    mine = mine.merge(clean[["learner", "key", "accuracy_all"]], on=["learner", "key"])
    joined = released.merge(mine, on=["learner", "trigger", "seed", "key"], suffixes=("_published", ""))
    for learner, group in joined.groupby("learner"):
        for quantity, column in (("accuracy_all", "clf_acc"), ("accuracy_clean", "clfp_acc"), ("bk", "bk_acc")):
            add("released slope runs", learner, quantity, group[column], group[quantity], 0.0021)
    means = joined.groupby(["learner", "trigger", "key"])[["bk_acc", "bk", "clf_acc", "accuracy_all"]].mean()
    for learner, group in means.groupby("learner"):
        add("mean over seeds", learner, "bk", group.bk_acc, group.bk, 0.0021)
        add("mean over seeds", learner, "accuracy_all", group.clf_acc, group.accuracy_all, 0.0021)
    theirs = pd.read_csv(folder / "curves_mnist_7-1_6x6.csv").replace({"learner": names})
    keys = ["learner", "gamma", "lambda", "fraction", "beta"]
    mine = ours[ours.trigger == "patch-6"]
    both = theirs.rename(columns={"p": "fraction"}).merge(mine, on=keys)
    for learner, group in both.groupby("learner"):
        add(
            "released curves 6x6",
            learner,
            "loss_triggered",
            group.loss_backdoored_test,
            group.loss_triggered,
            1e-3,
            True,
        )
        add("released curves 6x6", learner, "loss_clean", group.loss_clean_test, group.loss_clean, 1e-3, True)
    one = runs[(runs.trigger == "patch-3") & (runs.seed == 1)]
    for learner, slopes in INDEPENDENT_SLOPES.items():
        at = one[one.learner == learner].set_index(one[one.learner == learner].C.map(lambda c: f"{c:.4g}")).slope
        add("independent slopes", learner, "slope", slopes, [at[f"{c:.4g}"] for c in C_SLOPES], 1e-5, True)
    three = ours[(ours.trigger == "patch-3") & (ours.fraction == 0.1) & (ours["lambda"] == 0.01)]
    found = [
        float(three[(three.gamma == g) & (three.beta == b)][what].iloc[0]) for g, what, b, _ in INDEPENDENT_DEVIATION
    ]
    add("independent deviation", "rbf_svm", "rho, nu", [v for *_, v in INDEPENDENT_DEVIATION], found, 2e-3, True)
    return pd.DataFrame(rows), joined, means.reset_index()


def _keyed(frame):
    """Return the table with C and gamma as one word, since files round them differently."""
    gamma = frame.gamma.astype(float)
    return frame.assign(key=[f"{c:.4g}{g:.3g}" for c, g in zip(frame.C, gamma, strict=True)])


def released_slopes(joined):
    """Rank correlation of the released and of the right slope with BK at fixed learner and C, and the ratio of both."""
    from learningcurves.analysis import rank_correlation

    linear = joined[joined.learner != "rbf_svm"].assign(
        released=lambda f: -f.avg_influence, right=lambda f: -f.slope, ratio=lambda f: f.avg_influence / f.slope
    )
    rows = []
    for name in ("released", "right"):
        for question, how in (
            ("pooled", {}),
            ("fixed learner and C", {"within": ["learner", "key"], "min_range": 0.1}),
        ):
            # the published BK, so that the comparison is about the slope alone
            r = rank_correlation(linear, name, "bk_acc", n_boot=1000, **how)
            rows.append(
                {"slope": name, "question": question, "correlation": r.value, "low": r.low, "high": r.high}
                | {"n": r.n, "n_cells": r.n_cells}
            )
    ratio = linear.ratio.abs()
    svm = linear[linear.learner == "linear_svm"].pivot(index=["key", "seed"], columns="trigger", values="avg_influence")
    right = linear[linear.learner == "linear_svm"].pivot(index=["key", "seed"], columns="trigger", values="slope")
    facts = {
        "ratio_smallest": ratio.min(), "ratio_largest": ratio.max(),
        "svm_trigger_effect_released": float((svm["patch-6"] / svm["patch-3"] - 1).abs().median()),
        "svm_trigger_effect_right": float((right["patch-6"] / right["patch-3"] - 1).abs().median()),
    }  # fmt: skip
    return pd.DataFrame(rows).assign(**facts)


# %% Run, tables, finding
COLUMNS = ["pair", "trigger", "fraction", "learner", "gamma", "lambda", "beta", "loss_triggered", "loss_clean"]

if __name__ == "__main__":
    options = study.arguments(QUESTION, "00")
    kind = study.kind_of(options.pairs[0])
    curves, runs = released(study.grids(options, grids(kind, options.pairs, options.small)))
    clean = clean_accuracies(options.pairs[0], options.small)
    study.write_table(curves[[*COLUMNS, "rho", "nu", "status"]], options.tables, f"released_curves_{kind}")
    if "mnist:7-1" in options.pairs and (study.reference_folder() / "slopes_mnist_7-1.csv").exists():
        compared, joined, means = compare(curves, runs, clean)
        study.write_table(compared, options.tables, "published", digits=4)
        means["C"] = means.key.str.removesuffix("nan").where(means.learner != "rbf_svm", "").astype(str)
        linear = means[means.learner != "rbf_svm"].drop(columns="key").astype({"C": float})
        study.write_table(linear.sort_values(["learner", "trigger", "C"]), options.tables, "published_means", digits=4)
        study.write_table(released_slopes(joined), options.tables, "released_slopes", digits=4)
        print(compared.to_string())
        print(
            f"{(compared.share_within == 1).sum()} of {len(compared)} groups of published numbers lie within tolerance."
        )
    study.finish(options)
