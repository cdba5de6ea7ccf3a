"""Small random problems of every awkward kind, and random learners to go with them."""

import numpy as np

import learningcurves as lc

KINDS = ("logistic", "ridge", "squared_hinge", "softmax", "hinge", "kernel")


def random_problem(rng, *, n_classes=2, max_n=36, max_d=9):
    """Return a random `BackdoorProblem`: size, conditioning, overlap, duplicates, constant and zero features."""
    n = int(rng.integers(2 * n_classes, max_n))
    d = int(rng.integers(1, max_d)) if rng.random() < 0.75 else int(rng.integers(n, n + 12))
    m = int(rng.integers(0, 9)) if rng.random() < 0.9 else int(rng.integers(9, 20))
    scales = 10.0 ** rng.uniform(-2, 1, d) if rng.random() < 0.3 else np.ones(d)
    offset = rng.choice([0.0, 0.0, 3.0, 100.0]) * rng.normal(size=d)
    gap = rng.choice([0.0, 0.5, 2.0, 20.0])  # 20: separable
    means = rng.normal(size=(n_classes, d)) * gap

    def draw(size, y=None):
        y = rng.integers(0, n_classes, size) if y is None else y
        X = rng.normal(size=(size, d)) + means[y]
        if correlated:
            X = X @ mixing
        return (X * scales + offset) * rng_scale, y

    correlated, mixing = rng.random() < 0.2, rng.normal(size=(d, d)) @ np.diag(10.0 ** rng.uniform(-4, 0, d))
    rng_scale = 10.0 ** rng.uniform(-1.5, 1.0)
    y = rng.integers(0, n_classes, n)
    if rng.random() < 0.15:  # classes of one sample
        y[:] = 0
        y[: n_classes - 1] = np.arange(1, n_classes)
    y[:n_classes] = np.arange(n_classes)
    X, y = draw(n, y)
    trigger = rng.normal(size=d) * rng_scale * rng.choice([0.1, 1.0, 5.0])
    X_b, y_b = draw(m)
    X_b, y_b = X_b + trigger, (y_b + 1) % n_classes
    if rng.random() < 0.25:  # duplicate rows, in both parts and across them
        X[n // 2 :] = X[: n - n // 2]
        if rng.random() < 0.5:
            y[n // 2 :] = y[: n - n // 2]
        if m:
            X_b[0], y_b[0] = X[0], y[0]
            X_b[m // 2 :] = X_b[: m - m // 2]
            y_b[m // 2 :] = y_b[: m - m // 2]
    if rng.random() < 0.1:  # grid values: ties
        X, X_b = np.round(X), np.round(X_b)
    X_t, y_t = draw(12)
    X_test, y_test = draw(8)
    arrays = [X, X_b, X_test, X_t + trigger]
    if rng.random() < 0.2:  # a constant and a zero feature
        for a in arrays:
            a[:, 0] = 1.0
            a[:, -1] = 0.0
    y[:n_classes] = np.arange(n_classes)
    X, X_b, X_test, X_t = arrays
    return lc.BackdoorProblem(X, y, X_b, y_b, X_test, y_test, X_t, (y_t + 1) % n_classes, y_source=y_t)


def random_learner(rng, kind, n_classes=2):
    """Return a random learner of one kind: lambda over eight decades, every intercept, class weights."""
    reg = float(10.0 ** rng.uniform(-4, 4))
    weights = {c: float(w) for c, w in enumerate(10.0 ** rng.uniform(-1, 1, n_classes))} if rng.random() < 0.3 else None
    penalty = rng.choice([0.0, 0.0, 1.0, 0.01])
    common = {"reg": reg, "penalize_intercept": float(penalty), "class_weight": weights}
    if kind == "kernel":
        name = rng.choice(["rbf", "poly"])
        gamma = "scale" if rng.random() < 0.5 else float(10.0 ** rng.uniform(-2, 0.5))
        return lc.KernelSVM(kernel=str(name), gamma=gamma, degree=2, coef0=1.0, **common)
    common["fit_intercept"] = bool(rng.random() < 0.85)
    if kind in ("hinge", "squared_hinge"):
        return lc.LinearSVM(loss=kind, **common)
    return {"logistic": lc.Logistic, "ridge": lc.Ridge, "softmax": lc.Softmax}[kind](**common)


def random_case(seed, kind):
    """Return (problem, learner, beta) of one seed."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    n_classes = int(rng.integers(2, 5)) if kind == "softmax" else 2
    size = {"max_n": 30, "max_d": 6} if kind == "softmax" else {}
    problem = random_problem(rng, n_classes=n_classes, **size)
    beta = float(rng.choice([0.0, 1.0, rng.random(), 10.0 ** rng.uniform(-4, 0)]))
    return problem, random_learner(rng, kind, n_classes), beta
