"""Published numbers for MNIST 7-1: slopes, accuracies, curves and deviation of the released draw."""

import csv
from pathlib import Path

import numpy as np
import pytest
from helpers import paper

import learningcurves as lc

C_SLOPE = (1e-4, 3.5938137e-3, 2.15443469e-2, 0.129154967, 0.774263683, 4.64158883)
SLOPES = {  # dL/dbeta at 0, seed 1, 3x3, p = 0.1
    "logistic": (-2.78299e-02, -1.05151, -5.62882, -2.99551e01, -1.59325e02, -8.70094e02),
    "ridge": (-3.79387e-01, -3.43742, -1.72172e01, -1.00153e02, -6.00347e02, -3.60388e03),
    "svm": (-5.15599e-02, -7.48458e-01, -4.79869, -2.06507e01, -1.16931e02, -7.00983e02),
}
SEEDS = (1, 10, 11, 100, 101)
C_ACCURACY = np.geomspace(1e-4, 1e3, 10)
ACCURACIES = {  # mean over the seeds: backdoor accuracy at beta = 1, clean accuracy at beta = 0
    "svm": (
        (0.120, 0.047, 0.038, 0.518, 0.970, 0.971, 0.958, 0.958, 0.958, 0.958),
        (0.910, 0.956, 0.974, 0.982, 0.988, 0.984, 0.984, 0.984, 0.984, 0.984),
    ),
    "logistic": (
        (0.056, 0.052, 0.043, 0.090, 0.540, 0.899, 0.950, 0.960, 0.963, 0.963),
        (0.946, 0.950, 0.962, 0.978, 0.982, 0.992, 0.990, 0.988, 0.988, 0.988),
    ),
    "ridge": (
        (0.057, 0.047, 0.209, 0.865, 0.999, 0.998, 0.996, 0.985, 0.976, 0.966),
        (0.944, 0.960, 0.974, 0.978, 0.982, 0.982, 0.976, 0.972, 0.968, 0.964),
    ),
}
BETA = (0.0, 0.01, 0.10, 0.54, 0.99)
CURVES = [  # mean triggered loss, seed 999, p = 0.1
    (6, "linear svc", 100.0, (2.658, 2.613, 2.207, 1.093, 0.493)),
    (6, "logistic", 10.0, (5.076, 4.629, 2.418, 0.484, 0.271)),
    (6, "ridge", 1000.0, (3.295, 3.246, 2.891, 1.919, 1.386)),
    (3, "linear svc", 100.0, (2.658, 2.643, 2.500, 2.107, 1.881)),
    (3, "logistic", 10.0, (5.076, 4.893, 3.790, 1.948, 1.299)),
]


def learner_of(name, C):
    """The convention behind each column, and the factor between its loss and the published one."""
    return {
        "logistic": (lc.Logistic(reg=1 / C, penalize_intercept=True), 1.0),  # liblinear
        "ridge": (lc.Ridge(reg=1 / (2 * C)), 2.0),  # (1 - yf)^2 with alpha = 1/(2C)
        "svm": (lc.LinearSVM(reg=1 / C), 1.0),  # libsvm
        "linear svc": (lc.LinearSVM(reg=1 / C, penalize_intercept=True), 1.0),
    }[name]


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_agree_with_the_table(name, mnist_root):
    problem = paper(mnist_root)
    for C, published in zip(C_SLOPE, SLOPES[name], strict=True):
        learner, factor = learner_of(name, C)
        slope = lc.backdoor_slope(learner, problem)
        # six digits are printed
        np.testing.assert_allclose(factor * slope.value, published, rtol=1e-5, err_msg=f"{name} at C={C:g}")
        assert slope.status.ok
        assert not slope.error_bound > 1e-4 * abs(slope.value)


@pytest.mark.parametrize("name", ACCURACIES)
@pytest.mark.parametrize("which", [3, 6])
def test_accuracies_agree_with_the_table(name, which, mnist_root, seeds=SEEDS):
    learner, _ = learner_of(name, C_ACCURACY[which])
    found = [lc.learning_curve(learner, paper(mnist_root, seed), [1.0]) for seed in seeds]
    bk, clean = (row[which] for row in ACCURACIES[name])
    np.testing.assert_allclose(np.mean([curve.bk[0] for curve in found]), bk, atol=0.004)
    np.testing.assert_allclose(clean_accuracy(learner, mnist_root), clean, atol=0.004)


def clean_accuracy(learner, root):
    """Of the model trained on all 1500 samples, none of them poisoned."""
    data = lc.load_mnist_pair(7, 1, root=root, draw="paper")
    return learner.fit(data.X_train, data.y_train).score(data.X_test, data.y_test)


@pytest.mark.parametrize(("size", "name", "reg", "published"), CURVES)
def test_curve_values_agree_with_the_table(size, name, reg, published, mnist_root):
    learner, factor = learner_of(name, 1 / (2 * reg) if name == "ridge" else 1 / reg)
    if name == "ridge":  # lambda is that of (1 - yf)^2: alpha = lambda / 2
        learner.set_params(reg=reg / 2)
    curve = lc.learning_curve(learner, paper(mnist_root, 999, size), BETA)
    np.testing.assert_allclose(factor * curve.loss_triggered, published, atol=1e-3)


def test_deviation_of_the_rbf_svm(mnist_root):
    problem = paper(mnist_root, 999)
    narrow = lc.parameter_deviation(lc.learning_curve(lc.KernelSVM(reg=0.01, gamma=5e-4), problem, [0.0, 0.54, 1.0]))
    np.testing.assert_allclose(narrow.rho, [52.48, 113.75, 156.11], atol=0.01)  # printed from libsvm's own tolerance
    np.testing.assert_allclose(narrow.nu[-1], 0.398, atol=6e-4)
    wide = lc.parameter_deviation(lc.learning_curve(lc.KernelSVM(reg=0.01, gamma=5e-3), problem, [0.0, 1.0]))
    np.testing.assert_allclose(wide.rho, [25.37, 57.29], atol=6e-3)
    np.testing.assert_allclose(wide.nu[-1], 0.278, atol=6e-4)


def test_the_svm_slope_depends_on_the_trigger(mnist_root):
    """A published formula leaves the direct term out and gives one number for both triggers."""
    slopes = [lc.backdoor_slope(lc.LinearSVM(reg=1 / C_SLOPE[3]), paper(mnist_root, 1, size)).value for size in (3, 6)]
    np.testing.assert_allclose(slopes, [-20.65, -41.3], rtol=1.5e-3)


def test_the_rbf_deviation_starts_at_the_clean_fit(mnist_root):
    """At weight 0 a released script reads dual weights at the wrong samples; the clean subset alone gives 52.48."""
    problem = paper(mnist_root, 999)
    fitted = lc.KernelSVM(reg=0.01, gamma=5e-4).fit(problem.X_clean, problem.y_clean)
    K = fitted.objective_.kernel(problem.X_clean, problem.X_clean)
    rho = np.sqrt(fitted.dual_coef_ @ K @ fitted.dual_coef_)
    assert abs(rho - 52.48) < 6e-3
    curve = lc.learning_curve(lc.KernelSVM(reg=0.01, gamma=5e-4), problem, [0.0])
    np.testing.assert_allclose(curve.rho[0], rho, rtol=1e-9)


# ---- the released result files, where the data folder has them beside it ------------------------------------------


def released(root, name):
    path = Path(root).parent / "reference" / name
    if not path.is_file():
        pytest.skip(f"needs {name} beside the data folder")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("fraction", ["0.01", "0.1", "0.2"])
def test_released_curves(fraction, mnist_root):
    table = [row for row in released(mnist_root, "curves_mnist_7-1_6x6.csv") if row["p"] == fraction]
    groups = {}
    for row in table:
        groups.setdefault((row["learner"], row["gamma"], float(row["lambda"])), []).append(row)
    assert len(groups) == 10
    if fraction != "0.1":  # the other two: one of each learner
        groups = {key: lines for key, lines in groups.items() if key[2] in (100.0, 10.0, 1000.0)}
    for (name, gamma, reg), lines in groups.items():
        learner, factor = released_learner(name, gamma, reg)
        problem = paper(mnist_root, 999, 6, float(fraction))
        beta = np.array([float(line["beta"]) for line in lines])
        curve = lc.learning_curve(learner, problem, beta)
        # liblinear and libsvm at their default tolerances made the released numbers: at weak regularisation these are
        # off by percents
        rtol = 2e-3 if reg >= 1 or name in ("ridge", "svm-rbf") else 0.06
        for column, values in (("loss_backdoored_test", curve.loss_triggered), ("loss_clean_test", curve.loss_clean)):
            expected = np.array([float(line[column]) for line in lines])
            np.testing.assert_allclose(factor * values, expected, rtol=rtol, atol=1e-3, err_msg=f"{name} {gamma} {reg}")


def released_learner(name, gamma, reg):
    """The released learner of a row, and the factor between its loss and the published one."""
    if name == "svm" and not gamma:
        return lc.LinearSVM(reg=reg, penalize_intercept=True), 1.0
    if name == "logistic":
        return lc.Logistic(reg=reg), 1.0
    if name == "ridge":
        return lc.Ridge(reg=reg / 2), 2.0
    assert name == "svm-rbf"
    return lc.KernelSVM(reg=reg, gamma=float(gamma)), 1.0


def test_released_accuracies(mnist_root):
    table = released(mnist_root, "slopes_mnist_7-1.csv")
    names = {"logistic": "logistic", "ridge": "ridge", "svm": "svm"}
    wanted = [
        row
        for row in table
        if row["learner"] in names and not row["gamma"] and row["seed"] == "10" and row["trigger"] == "badnet3"
    ]
    chosen = [row for row in wanted if abs(np.log10(float(row["C"])) - np.log10(C_ACCURACY[4])) < 1e-3]
    assert len(chosen) == 3
    for row in chosen:
        learner, _ = learner_of(names[row["learner"]], float(row["C"]))
        curve = lc.learning_curve(learner, paper(mnist_root, 10), [1.0])
        np.testing.assert_allclose(clean_accuracy(learner, mnist_root), float(row["clf_acc"]), atol=0.0041)
        np.testing.assert_allclose(curve.bk[0], float(row["bk_acc"]), atol=0.0041)
