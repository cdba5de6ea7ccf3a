"""The slope is the limit of refitting: difference quotients whose order is shown to be right."""

import numpy as np
import pytest
from helpers import HINGE_CASES, REGS, SMOOTH_CASES, Refits, at_reg, case_id, get_problem

import learningcurves as lc


@pytest.mark.parametrize("at", [0.0, 0.3])
@pytest.mark.parametrize("reg", REGS, ids=case_id)
@pytest.mark.parametrize(("name", "learner", "data"), SMOOTH_CASES, ids=case_id)
def test_smooth_slope_is_the_limit_of_refitting(name, learner, data, reg, at, request):
    if data == "mnist" and reg not in (1e-3, 1.0, 1e3):
        return  # the same code at the same shapes: three decades apart are enough
    problem, learner = get_problem(data, request), at_reg(learner, reg)
    slope, refits = lc.backdoor_slope(learner, problem, at=at), Refits(learner, problem)
    assert slope.status.ok
    h = min(0.02, 0.2 * abs(slope.loss / slope.value))
    if "hinge" in name:  # smooth only between its kinks: refit until a step holds none of any weight
        error = np.inf
        while error > 1e-6 and h > 1e-13:
            error, h = min(_forward_error(refits, slope, at, h), _error(refits, slope, at, h)), h / 4
        assert error <= 1e-6, slope
        return
    for _ in range(30):
        error = _error(refits, slope, at, h)
        if error < 1e-4:
            break
        h /= 4.0 if error > 1.0 else 2.0
    halves = [error, *(_error(refits, slope, at, h / 2**k) for k in (1, 2, 3))]
    assert min(halves) <= 1e-6, (h, halves)
    if halves[0] > 1e-6:  # fourth order, until what is left is the rounding of the losses over the step
        orders = np.log2(np.divide(halves[:-1], halves[1:]))
        assert np.abs(orders - 4.0).min() < 0.5, (h, halves)


def _error(refits, slope, at, h):
    try:
        return abs(refits.central(at, h) - slope.value) / abs(slope.value)
    except lc.SolveFailed:  # at so negative a weight J has no minimum
        return np.inf


def _forward_error(refits, slope, at, h):
    low, high = refits([at, at + h])
    return abs((high - low) / h - slope.value) / abs(slope.value)


@pytest.mark.parametrize("at", [0.0, 0.3])
@pytest.mark.parametrize("reg", REGS, ids=case_id)
@pytest.mark.parametrize(("name", "learner", "data"), HINGE_CASES, ids=case_id)
def test_hinge_slope_is_exact_up_to_its_breakpoint(name, learner, data, reg, at, request):
    if data == "mnist" and reg not in (1e-3, 1.0, 1e3):
        return
    problem, learner = get_problem(data, request), at_reg(learner, reg)
    slope, refits = lc.backdoor_slope(learner, problem, at=at), Refits(learner, problem)
    if slope.status is lc.Status.NO_MARGIN_VECTORS:  # all samples bounded: only very strong regularisation
        assert reg >= 100.0
        assert np.isnan(slope.value)
        return
    assert slope.status.ok
    room = min(slope.breakpoint - at, 1.0)
    assert room > 0
    # test samples have kinks of their own: closer to `at` there are fewer between
    steps = room * np.array([0.5, 0.1, 0.01])
    losses = refits(np.concatenate([[at], at + steps[::-1]]))
    quotient = (losses[1:] - losses[0]) / steps[::-1]
    # two losses known to rounding, divided by the step
    floor = 4e-15 * max(losses[0], 1.0) / steps[::-1]
    error = np.abs(quotient - slope.value)
    assert np.any(error <= 1e-6 * abs(slope.value) + floor), (slope, error, floor)


@pytest.mark.parametrize("name", ["svm", "svm, penalised intercept", "rbf", "poly"])
def test_the_derivative_changes_at_the_breakpoint_and_not_before(name, request):
    _, learner, data = next(case for case in HINGE_CASES if case[0] == name)
    problem = get_problem(data, request)
    for reg in (0.1, 1.0, 10.0):
        learner = at_reg(learner, reg)
        end = lc.backdoor_slope(learner, problem, at=0.1).breakpoint
        room = end - 0.1
        refits = Refits(learner, problem)
        from learningcurves.solvers.path import solve

        before, late, after = (
            solve(refits.objective, refits.samples, [beta]) for beta in (0.1, end - 0.01 * room, end + 0.01 * room)
        )
        moves = [p.score_derivatives(problem.X_clean)[:, 0, 0] for p in (before, late, after)]
        scale = np.abs(moves[0]).max()
        assert np.abs(moves[1] - moves[0]).max() < 1e-7 * scale
        assert np.abs(moves[2] - moves[0]).max() > 1e-5 * scale


def test_the_two_point_quotient_has_no_error_inside_a_piece_and_one_across():
    from helpers import digits

    learner, problem = lc.LinearSVM(reg=1.0), digits()
    slope, refits = lc.backdoor_slope(learner, problem, at=0.1), Refits(learner, problem)
    room = slope.breakpoint - 0.1
    losses = refits(0.1 + room * np.array([0.0, 0.25, 0.5, 20.0, 40.0]))
    quotient = (losses[1:] - losses[0]) / (room * np.array([0.25, 0.5, 20.0, 40.0]))
    error = np.abs(quotient - slope.value) / abs(slope.value)
    assert error[:2].max() < 1e-7
    assert error[2:].min() > 1e-4


def test_verify_agrees_for_every_learner():
    from helpers import HINGE, SMOOTH, SOFTMAX, digits, synthetic

    for name, learner in {**SMOOTH, **HINGE, **SOFTMAX}.items():
        problem = synthetic() if "softmax" in name else digits()
        verification = lc.backdoor_slope(learner, problem, at=0.2).verify()
        assert verification.relative_difference < 1e-6, (name, verification)
        assert verification.cause == ""


def test_verify_names_the_cause_when_the_model_is_not_optimal():
    from helpers import digits
    from sklearn.linear_model import LogisticRegression

    problem = digits()
    model = LogisticRegression(tol=1e-1, max_iter=8).fit(problem.X_clean, problem.y_clean)
    with pytest.warns(lc.ConvergenceWarning, match="relative residual"):
        slope = lc.backdoor_slope(model, problem)
    assert slope.status is lc.Status.NOT_OPTIMAL
    assert "refine=True" in slope.verify().cause
    assert lc.backdoor_slope(model, problem, refine=True).verify().relative_difference < 1e-6
