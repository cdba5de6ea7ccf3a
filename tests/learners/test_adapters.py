"""Each estimator, fitted tightly, must be stationary for the objective it is mapped to.

The references are written here with NumPy from the formulas; none of the package's solvers is used.
"""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import lsq_linear
from scipy.special import expit, softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.metrics.pairwise import laplacian_kernel, linear_kernel, polynomial_kernel, rbf_kernel, sigmoid_kernel
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC

from learningcurves.data.problem import BackdoorProblem
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.learners import adapters
from learningcurves.learners.adapters import adapt
from learningcurves.learners.learners import KernelSVM, LinearSVM, Logistic, Ridge, Softmax

TIGHT = {"tol": 1e-12, "max_iter": 1_000_000}
KKT = 1e-5  # libsvm keeps its kernel matrix in single precision; asked for much less it does not end


def make_problem(n=60, m=9, d=4, n_classes=2, seed=0, labels=None, convert=lambda X: X):
    rng = np.random.default_rng(seed)
    labels = np.arange(n_classes) if labels is None else np.asarray(labels)

    def draw(size):
        codes = np.arange(size) % 3 % n_classes  # unbalanced when there are two classes
        X = rng.normal(size=(size, d)) + 0.8 * rng.permutation(np.eye(n_classes, d))[codes] + 0.3
        return X, codes

    X, y = draw(n)
    X_test, y_test = draw(12)
    X_backdoor = rng.normal(size=(m, d)) + np.eye(1, d, d - 1) * 2.0
    trigger = X_test + np.eye(1, d, d - 1) * 2.0
    wanted = (y_test + 1) % n_classes
    return BackdoorProblem(
        *(convert(X), labels[y], convert(X_backdoor), labels[np.zeros(m, dtype=int)]),
        *(convert(X_test), labels[y_test], convert(trigger), labels[wanted]),
        y_source=labels[y_test],
        class_names=[str(v) for v in labels],
    )


def both(problem):
    stack = sp.vstack if problem.is_sparse else np.vstack
    return stack([problem.X_clean, problem.X_backdoor]), np.concatenate([problem.y_clean, problem.y_backdoor])


def training(problem, at):
    """Training rows, labels and weights of the samples at backdoor weight `at`."""
    if at == 0:
        return problem.X_clean, problem.y_clean, np.ones(problem.n_clean)
    X, y = both(problem)
    return X, y, np.r_[np.ones(problem.n_clean), np.full(problem.n_backdoor, at)]


def fit(model, problem, at=0.0):
    X, y, weight = training(problem, at)
    return model.fit(X, y) if at in (0, 1) else model.fit(X, y, sample_weight=weight)


def objective_terms(adapted, at):
    """X (dense), signs or codes, total sample weights, mu, lambda: straight from the learner's parameters."""
    learner, problem = adapted.learner, adapted.problem
    X, y, weight = training(problem, at)
    X = X.toarray() if sp.issparse(X) else X
    if learner.class_weight is not None:
        weight = weight * np.array([learner.class_weight[label] for label in y.tolist()])
    codes = np.searchsorted(problem.classes, y)
    has_intercept = getattr(learner, "fit_intercept", True)
    mu = float(learner.penalize_intercept) if has_intercept else None
    return X, codes, weight, mu, learner.reg


def gradient(adapted, at=0.0, mu=None):
    """Largest gradient entry of J divided by the size of the terms that cancel in it."""
    X, codes, weight, own_mu, reg = objective_terms(adapted, at)
    mu = own_mu if mu is None else mu
    f = X @ adapted.coef.T + adapted.intercept
    y = np.where(codes == 1, 1.0, -1.0)
    loss = {
        Logistic: lambda: -y * expit(-y * f),
        Ridge: lambda: f - y,
        LinearSVM: lambda: -2 * y * np.maximum(0, 1 - y * f),
        Softmax: lambda: softmax(f, axis=1) - np.eye(f.shape[-1])[codes],
    }[type(adapted.learner)]()
    slope = (weight * loss.T).T
    parts = [slope.T @ X + reg * adapted.coef]
    if mu is not None:
        parts.append(slope.sum(axis=0) + reg * mu * adapted.intercept)
    scale = np.abs(slope).T @ np.abs(X)
    return max(np.abs(p).max() for p in parts) / scale.max()


WEIGHTS = [None, {0: 3.0, 1: 0.5}, "balanced"]
LOGISTIC = [
    (LogisticRegression(solver=solver, C=C, class_weight=weight, fit_intercept=free, **TIGHT), tolerance)
    for solver, tolerance in [
        ("lbfgs", 1e-6),
        ("newton-cg", 1e-8),
        ("newton-cholesky", 1e-8),
        ("sag", 1e-8),
        ("saga", 1e-8),
        ("liblinear", 1e-6),
    ]
    for C, weight, free in [(0.05, None, True), (7.0, WEIGHTS[1], True), (1.0, "balanced", True), (1.0, None, False)]
]
OTHERS = (
    [
        (LogisticRegression(solver="liblinear", C=2.0, intercept_scaling=s, dual=dual, **TIGHT), 1e-6)
        for s in (0.4, 3.0)
        for dual in (False, True)
    ]
    + [
        (RidgeClassifier(alpha=alpha, solver=solver, class_weight=weight, fit_intercept=free, tol=1e-12), 1e-8)
        for solver in ("auto", "svd", "cholesky", "lsqr", "sparse_cg")
        for alpha, weight, free in [(0.3, None, True), (20.0, WEIGHTS[1], True), (2.0, "balanced", False)]
    ]
    + [
        (
            LinearSVC(
                C=C, dual=dual, class_weight=weight, intercept_scaling=s, fit_intercept=free, tol=1e-9, max_iter=10**6
            ),
            1e-6,
        )
        for dual in (False, True)
        for C, weight, s, free in [
            (0.2, None, 1.0, True),
            (2.0, WEIGHTS[1], 3.0, True),
            (2.0, "balanced", 0.5, True),
            (1.0, None, 1.0, False),
        ]
    ]
)


def named(cases):
    return [pytest.param(model, tolerance, id=repr(model)[:110].replace("\n", "")) for model, tolerance in cases]


@pytest.mark.parametrize("at", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("model, tolerance", named(LOGISTIC + OTHERS))
def test_smooth_estimator_is_stationary_for_its_objective(model, tolerance, at):
    problem = make_problem()
    adapted = adapt(fit(model, problem, at), problem, at=at)
    assert gradient(adapted, at) <= tolerance
    assert adapted.problem is problem and adapted.dual is None and adapted.coef.shape == (4,)
    assert adapted.kind == type(model).__name__


def test_the_wrong_intercept_penalty_would_be_seen():
    problem = make_problem()
    model = fit(LogisticRegression(solver="liblinear", intercept_scaling=0.4, **TIGHT), problem)
    adapted = adapt(model, problem)
    assert adapted.learner.penalize_intercept == pytest.approx(1 / 0.16)
    assert gradient(adapted) <= 1e-6 < 1e-3 < min(gradient(adapted, mu=0.0), gradient(adapted, mu=1.0))


def test_balanced_weights_count_the_samples_of_the_fit():
    problem = make_problem()
    model = LogisticRegression(class_weight="balanced", solver="newton-cholesky", **TIGHT)
    model = fit(model, problem, at=1.0)
    assert gradient(adapt(model, problem, at=1.0), 1.0) <= 1e-9
    assert gradient(adapt(model, problem, at=0.0), 1.0) > 1e-3


@pytest.mark.parametrize("weight", [None, {0: 2.0, 1: 0.3, 2: 1.0}, "balanced"])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "newton-cholesky", "sag", "saga"])
def test_multinomial_logistic_is_softmax(solver, weight):
    problem = make_problem(n_classes=3)
    model = fit(LogisticRegression(solver=solver, C=0.5, class_weight=weight, **TIGHT), problem)
    adapted = adapt(model, problem)
    assert isinstance(adapted.learner, Softmax)
    assert adapted.coef.shape == (3, 4) and adapted.intercept.shape == (3,)
    assert gradient(adapted) <= 1e-6


def hinge_residual(adapted, at=0.0, near=1e-5):
    """How far reg (w, mu b) is from being a sum of admissible subgradients of the hinge."""
    X, codes, weight, mu, reg = objective_terms(adapted, at)
    y = np.where(codes == 1, 1.0, -1.0)
    margin = y * (X @ adapted.coef + adapted.intercept)
    rows = X if mu is None else np.c_[X, np.ones(len(X))]
    target = reg * adapted.coef if mu is None else np.r_[reg * adapted.coef, reg * mu * adapted.intercept]
    inside, at_one = margin < 1 - near, np.abs(margin - 1) <= near
    rest = target - rows[inside].T @ (weight * y)[inside]
    A = rows[at_one].T * y[at_one]
    solution = lsq_linear(A, rest, bounds=(0, weight[at_one]), tol=1e-14)
    return np.abs(A @ solution.x - rest).max() / (np.abs(rows).T @ weight).max()


@pytest.mark.parametrize("at", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("weight, scaling, free", [(None, 1.0, True), (WEIGHTS[1], 4.0, True), ("balanced", 1, False)])
def test_linear_svc_with_hinge(weight, scaling, free, at):
    problem = make_problem()
    model = LinearSVC(
        loss="hinge",
        C=0.3,
        class_weight=weight,
        intercept_scaling=scaling,
        fit_intercept=free,
        tol=1e-10,
        max_iter=10**6,
    )
    adapted = adapt(fit(model, problem, at), problem, at=at)
    assert adapted.learner.loss == "hinge" and adapted.learner.reg == pytest.approx(1 / 0.3)
    assert hinge_residual(adapted, at) <= 1e-6


KERNELS = {
    "linear": (dict(kernel="linear"), linear_kernel),
    "rbf": (dict(kernel="rbf", gamma=0.3), lambda A, B: rbf_kernel(A, B, 0.3)),
    "poly": (
        dict(kernel="poly", gamma=0.2, degree=2, coef0=1.5),
        lambda A, B: polynomial_kernel(A, B, degree=2, gamma=0.2, coef0=1.5),
    ),
    "sigmoid": (dict(kernel="sigmoid", gamma=0.02, coef0=0.1), lambda A, B: sigmoid_kernel(A, B, 0.02, 0.1)),
    "callable": (dict(kernel=laplacian_kernel), laplacian_kernel),
}


def dual_kkt(adapted, K, at, C=1.0):
    """Largest violation of the dual's optimality conditions by v and b."""
    X, codes, weight, mu, reg = objective_terms(adapted, at)
    assert mu == 0 and reg == pytest.approx(1 / C)
    v = adapted.dual[: len(codes)]
    assert not adapted.dual[len(codes) :].any()
    y, bound = np.where(codes == 1, 1.0, -1.0), weight / reg
    alpha, margin = y * v, y * (K @ v + adapted.intercept)
    assert alpha.min() >= 0 and np.all(alpha <= bound * (1 + 1e-9))
    low = np.where(alpha < bound * (1 - 1e-9), 1 - margin, 0).max()
    high = np.where(alpha > 0, margin - 1, 0).max()
    return max(low, high, abs(v.sum()))


@pytest.mark.parametrize("at", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("name", KERNELS)
def test_svc_dual_is_optimal(name, weight, at):
    settings, kernel = KERNELS[name]
    problem = make_problem()
    adapted = adapt(fit(SVC(C=0.5, class_weight=weight, tol=1e-6, **settings), problem, at), problem, at=at)
    X, _, _ = training(problem, at)
    assert dual_kkt(adapted, kernel(X, X), at, C=0.5) <= KKT
    assert adapted.dual.shape == (problem.n_clean + problem.n_backdoor,)
    if name == "linear":
        assert isinstance(adapted.learner, LinearSVM)
        np.testing.assert_allclose(adapted.coef, adapted.dual @ both(problem)[0], atol=1e-12)


def test_gamma_is_the_number_of_the_fit():
    problem = make_problem()
    for gamma in ("scale", "auto"):
        model = fit(SVC(gamma=gamma), problem)
        learner = adapt(model, problem).learner
        assert isinstance(learner, KernelSVM) and learner.gamma == model._gamma


@pytest.mark.parametrize("at, trained_on_all", [(0.0, False), (0.0, True), (0.4, True), (1.0, True)])
def test_svc_precomputed(at, trained_on_all):
    base = make_problem()
    rows, y = both(base)
    kernel = lambda X: rbf_kernel(X, rows, 0.3)  # noqa: E731
    problem = BackdoorProblem(
        *(kernel(base.X_clean), base.y_clean, kernel(base.X_backdoor), base.y_backdoor),
        *(kernel(base.X_test), base.y_test, kernel(base.X_triggered), base.y_triggered),
    )
    model = SVC(kernel="precomputed", C=2.0, tol=1e-6)
    n = base.n_clean
    K = kernel(rows) if trained_on_all else kernel(rows)[:n, :n]
    weight = np.r_[np.ones(n), np.full(base.n_backdoor, at)][: len(K)]
    model.fit(K, y[: len(K)], sample_weight=weight)
    adapted = adapt(model, problem, at=at)
    seen = n if at == 0 else len(rows)
    assert dual_kkt(adapted, kernel(rows)[:seen, :seen], at, C=2.0) <= KKT
    if at == 1:
        with pytest.raises(InvalidInput, match="at=1"):
            adapt(model, problem)


def test_svc_rows_in_any_order_and_zero_weights():
    problem = make_problem()
    X, y = both(problem)
    reference = adapt(SVC(gamma=0.3, tol=1e-6).fit(problem.X_clean, problem.y_clean), problem)
    order = np.random.default_rng(3).permutation(len(X))
    weight = (order < problem.n_clean).astype(float)
    model = SVC(gamma=0.3, tol=1e-6).fit(X[order], y[order], sample_weight=weight)
    reduced = model.support_  # counts rows of positive weight only: it must not be trusted
    assert not np.array_equal(X[order][reduced], model.support_vectors_)
    np.testing.assert_allclose(adapt(model, problem).dual, reference.dual, atol=1e-5)


def test_svc_duplicate_rows_respect_their_bounds():
    base = make_problem()
    X, y = np.vstack([base.X_clean] * 2), np.r_[base.y_clean, base.y_clean]
    problem = BackdoorProblem(
        *(X, y, base.X_clean[:20], base.y_clean[:20]),
        *(base.X_test, base.y_test, base.X_triggered, base.y_triggered),
    )
    for at in (0.0, 0.3, 1.0):
        adapted = adapt(fit(SVC(gamma=0.3, tol=1e-6), problem, at), problem, at=at)
        rows, _, _ = training(problem, at)
        assert dual_kkt(adapted, rbf_kernel(rows, rows, 0.3), at) <= KKT


@pytest.mark.parametrize(
    "last, optimal",
    [
        (LogisticRegression(C=0.7, solver="newton-cholesky", **TIGHT), gradient),
        (RidgeClassifier(alpha=3.0), gradient),
        (LinearSVC(C=0.5, dual=False, **TIGHT), gradient),
        (LinearSVC(C=0.5, loss="hinge", tol=1e-10, max_iter=10**6), hinge_residual),
    ],
)
@pytest.mark.parametrize("front", [[StandardScaler()], [StandardScaler(), "passthrough", PCA(3)]])
def test_pipeline_is_applied_to_the_problem(front, last, optimal):
    problem = make_problem()
    model = fit(make_pipeline(*front, last), problem)
    adapted = adapt(model, problem)
    assert optimal(adapted) <= 1e-6
    assert adapted.problem.n_features == len(adapted.coef)
    np.testing.assert_allclose(
        adapted.decision(adapted.problem.X_triggered), model.decision_function(problem.X_triggered), atol=1e-10
    )
    assert np.array_equal(adapted.problem.y_source, problem.y_source)
    assert adapted.problem.class_names == problem.class_names


def test_svc_behind_pca_is_matched_up_to_rounding():
    problem = make_problem()
    model = fit(make_pipeline(StandardScaler(), PCA(3), SVC(gamma=0.3, tol=1e-6)), problem)
    adapted = adapt(model, problem)
    rows = adapted.problem.X_clean
    assert dual_kkt(adapted, rbf_kernel(rows, rows, 0.3), 0.0) <= KKT


def test_nested_pipelines_and_grid_search():
    problem = make_problem()
    inner = make_pipeline(PCA(3), LogisticRegression(solver="newton-cholesky", **TIGHT))
    search = GridSearchCV(make_pipeline(StandardScaler(), inner), {"pipeline__logisticregression__C": [0.1, 1.0]}, cv=2)
    adapted = adapt(fit(search, problem), problem)
    assert gradient(adapted) <= 1e-8
    assert adapted.learner.reg == 1 / search.best_params_["pipeline__logisticregression__C"]


def test_pipeline_without_backdoor_samples_drops_the_image_shape():
    base = make_problem(m=0)
    problem = BackdoorProblem(
        *(base.X_clean, base.y_clean, base.X_backdoor, base.y_backdoor),
        *(base.X_test, base.y_test, base.X_triggered, base.y_triggered),
        image_shape=(1, 2, 2),
        value_range=(-20, 20),
    )
    adapted = adapt(fit(make_pipeline(StandardScaler(), RidgeClassifier()), problem), problem)
    assert adapted.problem.image_shape is None and adapted.problem.value_range is None
    assert adapted.problem.n_backdoor == 0
    assert adapt(fit(RidgeClassifier(), problem), problem).problem.image_shape == (1, 2, 2)


def test_pipeline_that_picks_columns_by_name():
    pd = pytest.importorskip("pandas")
    problem = make_problem()
    table = pd.DataFrame(problem.X_clean, columns=list("abcd"))
    front = ColumnTransformer([("scale", StandardScaler(), ["d", "a"])], remainder="passthrough")
    for model in (make_pipeline(front, RidgeClassifier()), RidgeClassifier(), SVC(gamma=0.3)):
        adapted = adapt(model.fit(table, problem.y_clean), problem)
        theirs = model.decision_function(table)
        np.testing.assert_allclose(adapted.decision(adapted.problem.X_clean), theirs, atol=1e-10)


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(solver="liblinear", **TIGHT),
        LogisticRegression(solver="newton-cholesky", **TIGHT),
        RidgeClassifier(solver="sparse_cg", tol=1e-12),
        LinearSVC(dual=False, **TIGHT),
        make_pipeline(MaxAbsScaler(), LogisticRegression(solver="newton-cholesky", **TIGHT)),
    ],
)
def test_sparse_problem(model):
    problem = make_problem(convert=sp.csr_matrix)
    adapted = adapt(fit(model, problem), problem)
    assert adapted.problem.is_sparse
    assert gradient(adapted) <= 1e-6


def test_sparse_svc():
    problem = make_problem(convert=sp.csr_matrix)
    dense = problem.X_clean.toarray()
    for X in (problem.X_clean, dense):
        adapted = adapt(SVC(kernel="linear", tol=1e-6).fit(X, problem.y_clean), problem)
        assert dual_kkt(adapted, dense @ dense.T, 0.0) <= KKT
    with pytest.raises(InvalidInput, match="sparse"):
        adapt(fit(SVC(), problem), problem)


def test_sparsified_coefficients_and_float32():
    problem = make_problem()
    model = fit(LogisticRegression(), problem).sparsify()
    expected = model.coef_.toarray()[0]
    assert np.array_equal(adapt(model, problem).coef, expected)
    single = LogisticRegression().fit(problem.X_clean.astype(np.float32), problem.y_clean)
    assert adapt(single, problem).coef.dtype == np.float64


@pytest.mark.parametrize("labels", [["no", "yes"], [7, 1], [-1, 1]])
def test_plus_one_is_the_second_class(labels):
    problem = make_problem(labels=labels)
    weight = {labels[0]: 3.0, labels[1]: 0.5}
    for model in (
        LogisticRegression(solver="newton-cholesky", class_weight=weight, **TIGHT),
        RidgeClassifier(class_weight=weight),
        SVC(class_weight=weight),
    ):
        model = fit(model, problem)
        adapted = adapt(model, problem)
        assert adapted.learner.class_weight == weight
        positive = adapted.decision(problem.X_test) > 0
        assert np.array_equal(problem.classes[positive.astype(int)], model.predict(problem.X_test))


def test_earlier_spellings_of_the_penalty():
    problem = make_problem()
    model = fit(LogisticRegression(), problem)
    for penalty, l1_ratio, accepted in [
        ("l2", 0.0, True),
        ("elasticnet", 0, True),
        ("deprecated", None, True),
        ("l2", None, True),
        ("l1", 0.0, False),
        ("elasticnet", 0.5, False),
        (None, None, False),
        ("deprecated", 0.5, False),
    ]:
        model.penalty, model.l1_ratio = penalty, l1_ratio
        if accepted:
            assert adapt(model, problem).learner.reg == 1.0
        else:
            with pytest.raises(NotSupported):
                adapt(model, problem)


def test_earlier_multi_class_settings():
    two, three = make_problem(), make_problem(n_classes=3)
    model = fit(LogisticRegression(), two)
    model.multi_class = "multinomial"
    with pytest.raises(NotSupported, match="multi_class"):
        adapt(model, two)
    model = fit(LogisticRegression(), three)
    for setting, accepted in [("auto", True), ("multinomial", True), ("deprecated", True), ("ovr", False)]:
        model.multi_class = setting
        if accepted:
            adapt(model, three)
        else:
            with pytest.raises(NotSupported, match="lc.Softmax"):
                adapt(model, three)


class _Noise(FunctionTransformer):
    """Not a fixed transformer: other values on every call."""

    calls = 0

    def transform(self, X):
        type(self).calls += 1
        return X + self.calls


class _Sampler(StandardScaler):
    def fit_resample(self, X, y):
        return X, y


@pytest.mark.parametrize(
    "model, message",
    [
        (SGDClassifier(), "SGDClassifier, which is not supported.*RidgeClassifier"),
        (CalibratedClassifierCV(LinearSVC()), "CalibratedClassifierCV"),
        (OneVsRestClassifier(LogisticRegression()), "OneVsRestClassifier"),
        (make_pipeline(StandardScaler(), SGDClassifier()), "SGDClassifier"),
        (make_pipeline(_Sampler(), RidgeClassifier()), "'_sampler'.*training set"),
        (make_pipeline(_Noise(), RidgeClassifier()), "second call"),
        (LogisticRegression(l1_ratio=1.0, solver="saga", max_iter=5000), "l1"),
        (LogisticRegression(l1_ratio=0.3, solver="saga", max_iter=5000), "l1"),
        (LogisticRegression(C=np.inf, max_iter=5000), "without regularisation"),
        (RidgeClassifier(alpha=0), "without regularisation"),
        (RidgeClassifier(positive=True), "positive"),
        (LinearSVC(penalty="l1", dual=False), "l1"),
        (LinearSVC(multi_class="crammer_singer", max_iter=10**5), "crammer_singer"),
    ],
    ids=lambda value: repr(value)[:60] if not isinstance(value, str) else "",
)
def test_not_supported(model, message):
    problem = make_problem()
    with pytest.raises(NotSupported, match=f"(?s){message}"):
        adapt(fit(model, problem), problem)


@pytest.mark.parametrize("model", [RidgeClassifier(), LinearSVC(), SVC()])
def test_several_classes_only_for_multinomial_logistic(model):
    problem = make_problem(n_classes=3)
    with pytest.raises(NotSupported, match="lc.Softmax"):
        adapt(fit(model, problem), problem)


def test_not_an_estimator():
    problem = make_problem()
    for model in (LogisticRegression, None, "model"):
        with pytest.raises(NotSupported, match="`model`"):
            adapt(model, problem)
    with pytest.raises(InvalidInput, match="`problem`"):
        adapt(fit(SVC(), problem), problem.X_clean)


@pytest.mark.parametrize(
    "model",
    [
        *(LogisticRegression(), RidgeClassifier(), LinearSVC(), SVC(), make_pipeline(StandardScaler(), SVC())),
        make_pipeline(StandardScaler(), SVC().fit([[0.0], [1.0]], [0, 1])),
        GridSearchCV(SVC(), {"C": [1.0]}),
    ],
)
def test_unfitted(model):
    with pytest.raises(InvalidInput, match="[Ff]it"):
        adapt(model, make_problem())


def test_other_classes_features_and_weights():
    problem = make_problem()
    with pytest.raises(InvalidInput, match="classes.*'a'.*labels"):
        adapt(LogisticRegression().fit(problem.X_clean, np.array(["a", "b"])[problem.y_clean]), problem)
    with pytest.raises(InvalidInput, match="trained on 3 features.*has 4"):
        adapt(LogisticRegression().fit(problem.X_clean[:, :3], problem.y_clean), problem)
    with pytest.raises(InvalidInput, match="trained on 3 features.*has 4"):
        adapt(make_pipeline(PCA(2), SVC()).fit(problem.X_clean[:, :3], problem.y_clean), problem)
    with pytest.raises(InvalidInput, match="`at=2`"):
        adapt(fit(RidgeClassifier(), problem), problem, at=2)


def test_svc_trained_on_other_samples():
    problem, other = make_problem(), make_problem(seed=5)
    with pytest.raises(InvalidInput, match="none of the training rows"):
        adapt(fit(SVC(), other), problem)
    with pytest.raises(InvalidInput, match="at=1"):
        adapt(fit(SVC(), problem, at=1.0), problem)
    X, y, _ = training(problem, 0.0)
    with pytest.raises(InvalidInput, match="labels differ"):
        adapt(SVC().fit(X, 1 - y), problem)
    with pytest.raises(InvalidInput, match="weights differ"):
        adapt(SVC().fit(X, y, sample_weight=np.full(len(y), 3.0)), problem)
    with pytest.raises(InvalidInput, match="more copies"):
        adapt(SVC().fit(np.vstack([X, X]), np.r_[y, y]), problem)
    square = SVC(kernel="precomputed").fit(X @ X.T, y)
    with pytest.raises(InvalidInput, match="precomputed"):
        adapt(square, problem)


def test_precomputed_with_other_rows_is_noticed():
    base = make_problem(m=0)
    K = rbf_kernel(base.X_clean, base.X_clean, 0.3)
    problem = BackdoorProblem(K, base.y_clean, K[:0], base.y_backdoor, K[:5], base.y_clean[:5], K[:5], base.y_clean[:5])
    weight = np.ones(len(K))
    weight[:20] = 0.0
    with pytest.raises(InvalidInput, match="sample weights of zero"):
        adapt(SVC(kernel="precomputed").fit(K, base.y_clean, sample_weight=weight), problem)


def test_changed_attributes_are_noticed():
    problem = make_problem()
    model = fit(SVC(gamma=0.3), problem)
    model.coef0 = 1.0  # no part in this kernel
    adapt(model, problem)
    model.intercept_ = model.intercept_ + 0.5
    with pytest.raises(InvalidInput, match="changed after the fit"):
        adapt(model, problem)
    model = fit(RidgeClassifier(), problem)
    model.coef_ = model.coef_ * np.nan
    with pytest.raises(InvalidInput, match="finite"):
        adapt(model, problem)


def test_every_listed_estimator_has_a_reader():
    assert all(kind.__name__ in adapters.SUPPORTED for kind in adapters.READERS)
