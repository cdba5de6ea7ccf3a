"""The table of cases (learner x data), the problems they run on, and the slow obvious ways to check them."""

import sys
from functools import cache
from pathlib import Path

import numpy as np

import learningcurves as lc
from learningcurves.solvers.objective import encode_labels, training_samples
from learningcurves.solvers.path import share, solve

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.insert(0, str(BENCHMARKS))  # the references and random problems live beside the scripts that use them

WEIGHTED = {0: 0.5, 1: 2.0}
SMOOTH = {
    "logistic": lc.Logistic(),
    "logistic, free intercept": lc.Logistic(penalize_intercept=False),
    "logistic, class weights": lc.Logistic(class_weight=WEIGHTED),
    "ridge": lc.Ridge(),
    "ridge, penalised intercept": lc.Ridge(penalize_intercept=0.25),
    "ridge, no intercept, class weights": lc.Ridge(fit_intercept=False, class_weight=WEIGHTED),
    "squared hinge": lc.LinearSVM(loss="squared_hinge"),
    "squared hinge, penalised intercept": lc.LinearSVM(loss="squared_hinge", penalize_intercept=True),
}
HINGE = {
    "svm": lc.LinearSVM(),
    "svm, penalised intercept": lc.LinearSVM(penalize_intercept=True),
    "svm, class weights": lc.LinearSVM(class_weight=WEIGHTED),
    "rbf": lc.KernelSVM(gamma=0.05),
    "rbf, penalised intercept": lc.KernelSVM(gamma=0.05, penalize_intercept=True),
    "poly": lc.KernelSVM(kernel="poly", degree=2, coef0=1.0, gamma=0.1),
}
SOFTMAX = {
    "softmax": lc.Softmax(),
    "softmax, penalised intercept": lc.Softmax(penalize_intercept=True),
    "softmax, class weights": lc.Softmax(class_weight={0: 0.5, 1: 2.0, 2: 1.0}),
}
REGS = tuple(10.0**k for k in range(-3, 4))  # six decades

CASES = [
    *((name, learner, "digits") for name, learner in SMOOTH.items()),
    *((name, learner, "digits") for name, learner in HINGE.items()),
    *((name, learner, "synthetic") for name, learner in SOFTMAX.items()),
    *((name, SMOOTH[name], "mnist") for name in ("logistic", "ridge", "squared hinge")),
    *((name, HINGE[name], "mnist") for name in ("svm", "rbf")),
]
SMOOTH_CASES = [case for case in CASES if case[0] not in HINGE]
HINGE_CASES = [case for case in CASES if case[0] in HINGE]


def case_id(value):
    """Readable names for pytest."""
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else ""


def at_reg(learner, reg):
    """A copy of a learner at another lambda."""
    from sklearn.base import clone

    return clone(learner).set_params(reg=reg)


@cache
def digits(fraction=0.1, seed=1, size=3):
    """Digits 7 and 1 of scikit-learn's images with a patch per class."""
    return lc.poison(lc.load_digits_pair(7, 1), lc.RandomPatch(size=size, per_class=True, seed=1), fraction, seed=seed)


@cache
def synthetic(n=90, noise=0.6):
    """Three overlapping classes of 6 x 6 images."""
    data = lc.make_synthetic(3, n, noise=noise, image_shape=(1, 4, 4), seed=3)
    return lc.poison(data, lc.RandomPatch(size=2, seed=1), 0.15, seed=1)


@cache
def mnist(root, n_train=300):
    """A small draw of MNIST 7-1: fewer samples than features."""
    data = lc.load_mnist_pair(7, 1, root=root, n_train=n_train, n_test=200)
    return lc.poison(data, lc.RandomPatch(size=3, per_class=True, seed=1), 0.1, seed=1)


@cache
def paper(root, seed=1, size=3, fraction=0.1):
    """The released MNIST 7-1 draw: 1350 clean and 150 backdoor samples at 10 %."""
    data = lc.load_mnist_pair(7, 1, root=root, draw="paper")
    trigger = lc.RandomPatch(size=size, per_class=True, seed=seed, draw="paper")
    return lc.poison(data, trigger, fraction, seed=seed, draw="paper")


def get_problem(name, request):
    """A problem by name; MNIST through its fixture, which skips where there are no files."""
    if name == "mnist":
        return mnist(request.getfixturevalue("mnist_root"))
    return {"digits": digits, "synthetic": synthetic}[name]()


class Refits:
    """Triggered losses of refits, for differences; beta may be slightly negative."""

    def __init__(self, learner, problem):
        self.objective = learner.objective(problem.X_clean)
        self.samples = training_samples(problem, self.objective)
        self.shared = share(self.objective, self.samples)
        self.problem = problem
        self.y = encode_labels(problem.y_triggered, problem.classes, self.objective.loss)

    def __call__(self, beta):
        beta = np.asarray(beta, dtype=float)
        path = solve(self.objective, self.samples, beta, shared=self.shared)
        path.raise_if_failed()
        return self.objective.loss.value(path.scores(self.problem.X_triggered), self.y).mean(axis=0)

    def central(self, at, h):
        """Fourth-order central difference."""
        far, near, near_right, far_right = self(at + h * np.array([-2.0, -1.0, 1.0, 2.0]))
        return (8.0 * (near_right - near) - (far_right - far)) / (12.0 * h)


def rows(problem, **changes):
    """A problem with some of its arrays replaced."""
    names = ("X_clean", "y_clean", "X_backdoor", "y_backdoor", "X_test", "y_test", "X_triggered", "y_triggered")
    return lc.BackdoorProblem(*(changes.get(name, getattr(problem, name)) for name in names))
