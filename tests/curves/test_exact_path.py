"""The whole hinge curve against the curve's own points, the slope, a closed form of its pieces and refits."""

import numpy as np
import pytest
from helpers import HINGE, at_reg, digits, rows
from sklearn.svm import SVC

import learningcurves as lc
from learningcurves.errors import InvalidInput, NotSupported, Status

BETA = np.sort(np.random.default_rng(3).random(9))


@pytest.fixture(scope="module")
def problem():
    return digits()


@pytest.mark.parametrize("reg", [0.05, 2.0])
@pytest.mark.parametrize("name", HINGE)
def test_every_beta_of_the_path_is_a_point_of_the_curve(problem, name, reg):
    learner = at_reg(HINGE[name], reg)
    path, curve = lc.exact_path(learner, problem), lc.learning_curve(learner, problem, BETA)
    assert path.status.ok
    assert path.residual <= 1e-9
    np.testing.assert_allclose(path.loss_at(BETA), curve.loss_triggered, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(path.slope_at(BETA), curve.slope, rtol=1e-6, atol=1e-9)
    coef, dual, intercept = path.weights(BETA)
    np.testing.assert_allclose(intercept, curve.intercept, atol=1e-8)
    if curve.coef is None:
        assert coef is None
        assert dual.shape == curve.dual_coef.shape
    else:
        np.testing.assert_allclose(coef, curve.coef, atol=1e-8)
        X = np.vstack([problem.X_clean, problem.X_backdoor])
        np.testing.assert_allclose(dual @ X, coef, atol=1e-10)


@pytest.mark.parametrize("name", HINGE)
def test_slope_and_breakpoint_at_zero(problem, name):
    path, slope = lc.exact_path(HINGE[name], problem), lc.backdoor_slope(HINGE[name], problem)
    assert path.slope[0] == pytest.approx(slope.value, rel=1e-7)
    assert path.breakpoints[1] == pytest.approx(slope.breakpoint, rel=1e-6)


def test_the_loss_is_a_chain_of_lines(problem):
    path = lc.exact_path(lc.LinearSVM(reg=2.0), problem)
    assert path.breakpoints[0] == path.kinks[0] == 0.0
    assert path.breakpoints[-1] == path.kinks[-1] == 1.0
    assert np.all(np.diff(path.kinks) > 0)
    assert np.isin(path.breakpoints, path.kinks).all()
    assert len(path.kinks) > len(path.breakpoints) > 10
    some = np.arange(1, len(path.kinks) - 1)[:: max(1, len(path.kinks) // 8)]
    for k in some:  # no kink between two kinks: the middle is the mean of the ends, by a refit of its own
        middle = 0.5 * (path.kinks[k] + path.kinks[k + 1])
        refitted = lc.learning_curve(lc.LinearSVM(reg=2.0), problem, [middle]).loss_triggered[0]
        assert refitted == pytest.approx(0.5 * (path.loss[k] + path.loss[k + 1]), rel=1e-9)
    inner = path.kinks[1:-1]
    np.testing.assert_array_equal(path.slope_at(inner), path.slope[1:])
    np.testing.assert_array_equal(path.slope_at(inner, "left"), path.slope[:-1])
    assert np.isnan(path.slope_at(1.0)) and np.isnan(path.slope_at(0.0, "left"))


@pytest.mark.parametrize("name", ["svm", "rbf"])
def test_the_area_is_exact_and_does_not_depend_on_the_points(problem, name):
    learner = at_reg(HINGE[name], 2.0)
    few, many = (lc.learning_curve(learner, problem, beta) for beta in ([0.0, 0.5], np.linspace(0.0, 1.0, 301)))
    path = lc.exact_path(learner, problem)
    assert path.area == pytest.approx(np.trapezoid(path.loss, path.kinks), rel=1e-12)
    assert few.area == pytest.approx(path.area, rel=1e-9)
    assert many.area == pytest.approx(path.area, rel=1e-9)
    h = 1.0 / 300  # trapezoids of independent points: each is off by at most h^2 / 8 of the change of slope inside it
    off = np.sum(np.abs(np.diff(path.slope))) * h**2 / 8
    assert abs(np.trapezoid(many.loss_triggered, many.beta) - path.area) <= off
    assert few.half_beta == pytest.approx(path.half_beta, rel=1e-6)
    assert few.exact_path.n_events == path.n_events


def test_certificates_along_the_path_cover_its_distance_from_refits(problem):
    learner = lc.LinearSVM(reg=0.5)
    path = lc.exact_path(learner, problem)
    for beta in BETA[::3]:
        (coef,), _, _ = path.weights(beta)
        point, certificate = lc.learning_curve(learner, problem, [beta]).point(0), path.certificate(beta)
        assert certificate.residual <= 1e-9
        assert np.linalg.norm(coef - point.coef) <= certificate.bound + point.bound <= 1e-6


def test_offset_features_move_only_the_intercept(problem):
    """With a free intercept w does not see a shift of the features, however large."""
    away = rows(
        problem,
        **{f: getattr(problem, f) + 1e4 for f in ("X_clean", "X_backdoor", "X_test", "X_triggered")},
    )
    here, there = (lc.exact_path(lc.LinearSVM(reg=1.0), p) for p in (problem, away))
    np.testing.assert_allclose(there.weights(BETA)[0], here.weights(BETA)[0], atol=1e-9)
    np.testing.assert_allclose(there.breakpoints[:5], here.breakpoints[:5], rtol=1e-7)
    assert there.area == pytest.approx(here.area, rel=1e-7)


def test_a_fitted_svc_has_the_path_of_its_learner(problem):
    fitted = SVC(C=0.5, gamma=0.05, tol=1e-8).fit(problem.X_clean, problem.y_clean)
    path = lc.exact_path(fitted, problem, refine=True)
    assert path.reg == 2.0
    assert path.area == pytest.approx(lc.exact_path(lc.KernelSVM(reg=2.0, gamma=0.05), problem).area, rel=1e-9)
    assert lc.exact_path(fitted, problem, reg=7.0, refine=True).reg == 7.0


def test_an_interval_of_intercepts_is_a_status():
    X = np.array([[1.0, 0.0]] * 6 + [[-1.0, 0.0]] * 6)
    y, B = np.array([1] * 6 + [0] * 6), np.array([[0.5, 1.0], [0.4, 1.0]])
    bounded = lc.BackdoorProblem(X, y, B, [0, 0], X, y, B + 0.1, [0, 0])
    assert lc.exact_path(lc.LinearSVM(reg=1e3, penalize_intercept=True), bounded).status is Status.OK
    path = lc.exact_path(lc.LinearSVM(reg=1e3), lc.BackdoorProblem(X, y, B[:0], [], X, y, B + 0.1, [0, 0]))
    assert path.status is Status.NO_MARGIN_VECTORS
    assert "interval" in repr(path)


def test_only_hinge_has_an_exact_path(problem):
    for learner in (lc.Logistic(), lc.LinearSVM(loss="squared_hinge")):
        with pytest.raises(NotSupported, match="piecewise linear"):
            lc.exact_path(learner, problem)
        with pytest.raises(NotSupported, match="only hinge"):
            _ = lc.learning_curve(learner, problem, [0.5]).exact_path
    with pytest.raises(InvalidInput, match="reg"):
        lc.exact_path(lc.LinearSVM(), problem, reg=-1.0)
    with pytest.raises(InvalidInput, match="beta"):
        lc.exact_path(lc.LinearSVM(), problem).loss_at(1.5)
