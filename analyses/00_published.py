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


# %% Cells: the released conventions, which differ between curves and slopes
def cells(pairs, small):
    sizes = [f"patch-{s}" for pair in pairs[:1] for s in study.PATCHES[study.kind_of(pair)]]
    gammas = GAMMAS[::4] if small else GAMMAS
    rows = [
        {"what": "curve", "pair": pair, "trigger": t, "fraction": p, "seed": 999}
        for pair in pairs for t in sizes for p in ((0.1,) if small else (0.01, 0.1, 0.2))
    ]  # fmt: skip
    known = [(n, None) for n in ("linear_svm", "logistic", "ridge")] + [("rbf_svm", g) for g in gammas]
    return rows + [
        {"what": "accuracy", "pair": pair, "trigger": t, "fraction": 0.1, "seed": s, "learner": n, "gamma": g}
        for pair in pairs[:1] for t in sizes for n, g in known
        for s in study.SEEDS[: 1 if small else 2 if g else None]  # kernels: two of the five seeds
    ]  # fmt: skip


def measure(cell):
    problem = study.problem_of(cell)
    if cell["what"] == "accuracy":
        values = C_RBF if cell["learner"] == "rbf_svm" else C_LINEAR
        # released ridge: loss (1 - yf)^2 with alpha = 1 / (2C), that is twice our loss at reg = 1 / (2C)
        factor = 2.0 if cell["learner"] == "ridge" else 1.0
        curves = lc.learning_curve(study.learner_of(cell), problem, [0.0, 1.0], reg=[1 / (factor * c) for c in values])
        return [
            {
                "C": c, "accuracy_clean_0": float(curve.accuracy_clean[0]),
                "accuracy_clean": float(curve.accuracy_clean[1]), "bk": float(curve.bk[1]),
                "slope": factor * float(curve.slope[0]),
            }
            for c, curve in zip(values, curves, strict=True)
        ]  # fmt: skip
    rows = []
    for name, gamma, reg in CURVES:
        factor = 2.0 if name == "ridge" else 1.0
        # released curves of the linear SVM penalise the intercept (LinearSVC); their slopes do not (libsvm)
        extra = {"penalize_intercept": True} if name == "linear_svm" else {}
        learner = study.learner_of({"learner": name, "gamma": gamma}, **extra)
        curve = lc.learning_curve(learner, problem, BETA, reg=reg / factor)
        rows += [
            {
                "learner": name, "gamma": gamma, "lambda": reg, "beta": beta,
                "loss_triggered": factor * lt, "loss_clean": factor * lc_, "rho": rho, "nu": nu,
            }
            for beta, lt, lc_, rho, nu in zip(
                curve.beta.tolist(), curve.loss_triggered.tolist(), curve.loss_clean.tolist(), curve.rho.tolist(),
                curve.nu.tolist(), strict=True,
            )
        ]  # fmt: skip
    return rows


def clean_cells(pair, small):
    """Return the learners whose published clean accuracy is that of a model of all 1500 clean samples."""
    known = [(n, None) for n in ("linear_svm", "logistic", "ridge")] + [("rbf_svm", g) for g in GAMMAS]
    return [{"what": "clean", "pair": pair, "learner": n, "gamma": g} for n, g in (known[:3] if small else known)]


def measure_clean(cell):
    data = study.load(cell["pair"])
    problem = lc.poison(data, lc.RandomPatch(size=2, draw="paper"), 0.0, draw="paper")
    values = C_RBF if cell["learner"] == "rbf_svm" else C_LINEAR
    factor = 2.0 if cell["learner"] == "ridge" else 1.0
    curves = lc.learning_curve(study.learner_of(cell), problem, [0.0], reg=[1 / (factor * c) for c in values])
    return [{"C": c, "accuracy_all": float(v.accuracy_clean[0])} for c, v in zip(values, curves, strict=True)]


# %% Beside the published files
def compare(table, clean):
    """One row a group of published numbers: how many, and how far ours are."""
    folder, names = study.reference_folder(), {"svm": "linear_svm", "svm-rbf": "rbf_svm"}
    ours = table[table.pair == "mnist:7-1"]
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
    mine, clean = (_keyed(frame) for frame in (ours[ours.what == "accuracy"], clean))
    mine = mine.merge(clean[["learner", "key", "accuracy_all"]], on=["learner", "key"])
    joined = released.merge(mine, on=["learner", "trigger", "seed", "key"], suffixes=("_published", ""))
    for learner, group in joined.groupby("learner"):
        for quantity, column in (("accuracy_all", "clf_acc"), ("accuracy_clean", "clfp_acc"), ("bk", "bk_acc")):
            add("released slope runs", learner, quantity, group[column], group[quantity], 0.0021)
    means = joined.groupby(["learner", "trigger", "key"])[["bk_acc", "bk", "clf_acc", "accuracy_all"]].mean()
    for learner, group in means.groupby("learner"):
        add("mean over seeds", learner, "bk", group.bk_acc, group.bk, 0.0021)
        add("mean over seeds", learner, "accuracy_all", group.clf_acc, group.accuracy_all, 0.0021)
    curves = pd.read_csv(folder / "curves_mnist_7-1_6x6.csv").replace({"learner": names})
    keys = ["learner", "gamma", "lambda", "fraction", "beta"]
    mine = ours[(ours.what == "curve") & (ours.trigger == "patch-6")].astype({"gamma": float})
    both = curves.rename(columns={"p": "fraction"}).merge(mine, on=keys)
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
    one = ours[(ours.what == "accuracy") & (ours.trigger == "patch-3") & (ours.seed == 1)]
    for learner, slopes in INDEPENDENT_SLOPES.items():
        at = one[one.learner == learner].set_index(one[one.learner == learner].C.map(lambda c: f"{c:.4g}")).slope
        add("independent slopes", learner, "slope", slopes, [at[f"{c:.4g}"] for c in C_SLOPES], 1e-5, True)
    three = ours[
        (ours.what == "curve") & (ours.trigger == "patch-3") & (ours.fraction == 0.1) & (ours["lambda"] == 0.01)
    ]
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
if __name__ == "__main__":
    options = study.arguments(QUESTION, "00")
    table = study.run(cells(options.pairs, options.small), measure, options.out, options.n_jobs)
    kind = study.kind_of(options.pairs[0])
    clean = study.run(clean_cells(options.pairs[0], options.small), measure_clean, options.out, options.n_jobs)
    curves = table[table.what == "curve"].drop(
        columns=["what", "seed", "C", "accuracy_clean_0", "accuracy_clean", "bk", "slope"]
    )
    study.write_table(curves, options.tables, f"released_curves_{kind}")
    if "mnist:7-1" in options.pairs and (study.reference_folder() / "slopes_mnist_7-1.csv").exists():
        compared, joined, means = compare(table, clean)
        study.write_table(compared, options.tables, "published", digits=4)
        means["C"] = means.key.str.removesuffix("nan").where(means.learner != "rbf_svm", "").astype(str)
        linear = means[means.learner != "rbf_svm"].drop(columns="key").astype({"C": float})
        study.write_table(linear.sort_values(["learner", "trigger", "C"]), options.tables, "published_means", digits=4)
        study.write_table(released_slopes(joined), options.tables, "released_slopes", digits=4)
        print(compared.to_string())
        print(
            f"{(compared.share_within == 1).sum()} of {len(compared)} groups of published numbers lie within tolerance."
        )
