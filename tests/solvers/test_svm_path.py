"""The whole path against independent solves, at random beta and at its breakpoints from both sides."""

import numpy as np
import pytest
from svm_cases import random_case

from learningcurves.errors import Status
from learningcurves.solvers.active_set import solve_at
from learningcurves.solvers.dual_curve import solve_along
from learningcurves.solvers.kernel_matrix import kernel_rows
from learningcurves.solvers.svm_direction import direction, directions
from learningcurves.solvers.svm_path import svm_path


def path_of(case):
    return svm_path(case.kernel, case.y, case.base, case.rate, free_intercept=case.free)


def solved(case, beta):
    return solve_at(case.kernel, case.y, case.upper(beta), free_intercept=case.free)


def tolerance(case, v):
    return max(1e-8, 1e-13 * case.size(v))


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_path_is_what_independent_solves_say(first):
    for seed in range(first, first + 20):
        case, rng = random_case(seed), np.random.default_rng(seed)
        path = path_of(case)
        assert path.status is Status.OK
        breaks = path.breakpoints
        some = rng.choice(breaks, size=min(2, len(breaks)), replace=False)
        betas = np.clip(np.concatenate([rng.random(2), [0.0, 1.0], some, some - 1e-7, some + 1e-7]), 0.0, 1.0)
        v, b = path.at(betas)
        for beta, found, intercept in zip(betas, v, b, strict=True):
            reference = solved(case, beta)
            off = np.abs(case.kernel.dot(found) - (reference.f - reference.b)).max()
            limit = tolerance(case, found)
            assert off <= limit, (seed, beta)
            low, high = reference.b_interval
            assert not case.free or low - limit <= intercept <= high + limit, (seed, beta)
        sizes = [case.size(path.at(beta)[0][0]) for beta in (0.0, 1.0)]
        assert path.residuals().max() <= max(1e-9, 1e-13 * max(sizes)), seed


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_directions_predict_the_next_solution(first):
    n_exact = 0
    for seed in range(first, first + 20):
        case = random_case(seed)
        betas = np.array([0.0, 0.15, 0.7])
        solutions = solve_along(case.kernel, case.y, case.base, case.rate, betas, free_intercept=case.free)
        batch = directions(case.kernel, case.y, solutions, case.rate, betas, free_intercept=case.free)
        path = path_of(case)
        for beta, solution, many in zip(betas, solutions, batch, strict=True):
            one = direction(case.kernel, case.y, solution, case.rate, free_intercept=case.free, at=beta)
            assert one.status is many.status
            if not one.status.ok:
                assert np.isnan(one.df).all()
                continue
            assert one.breakpoint > beta
            limit = tolerance(case, np.abs(solution.v) + np.abs(one.dv))
            np.testing.assert_allclose(many.df, one.df, atol=limit)
            reach = min(one.breakpoint, 1.0) - beta
            for part in (0.5, 0.99):
                ahead = solved(case, beta + part * reach)
                moved = solution.f + part * reach * one.df
                shift = 0.0 if ahead.intercept_is_unique else ahead.b - moved.mean() + ahead.f.mean() - ahead.b
                np.testing.assert_allclose(ahead.f, moved + shift, atol=limit)
            right = path.direction(beta, side="right")
            assert right.status.ok
            np.testing.assert_allclose(right.df, one.df, atol=limit * max(1.0, np.abs(one.df).max()))
            n_exact += 1
    assert n_exact > 25


def test_derivatives_differ_on_the_two_sides_of_a_breakpoint():
    case = random_case(0, n_most=60)
    case.reg = 0.5
    path = path_of(case)
    for beta in path.breakpoints[1:-1]:
        left, right = path.direction(beta, "left"), path.direction(beta, "right")
        assert left.breakpoint < beta < right.breakpoint
        h = 0.5 * min(beta - left.breakpoint, right.breakpoint - beta)
        at = solved(case, beta)
        for side, found in ((-h, left), (h, right)):
            if found.status.ok:
                np.testing.assert_allclose((solved(case, beta + side).f - at.f) / side, found.df, atol=1e-8 / h)


def test_no_bounded_backdoor_sample_means_no_slope():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(30, 3)) + 2.0, rng.normal(size=(30, 3)) - 2.0, np.full((5, 3), 9.0)])
    y = np.where(np.arange(65) < 30, 1.0, -1.0)
    y[60:] = 1.0
    backdoor = np.arange(65) >= 60
    solution = solve_at(kernel_rows(X), y, np.where(backdoor, 0.0, 1.0), free_intercept=True)
    found = direction(kernel_rows(X), y, solution, backdoor * 1.0, free_intercept=True)
    assert found.status is Status.OK and np.all(found.df == 0.0) and found.breakpoint == np.inf


def test_an_interval_of_intercepts_has_a_status_and_no_derivative():
    X = np.array([[0.0], [0.0], [1.0], [1.0], [0.4]])
    y = np.array([1.0, 1.0, -1.0, -1.0, -1.0])
    backdoor = np.arange(5) == 4
    kernel = kernel_rows(X)
    solution = solve_at(kernel, y, np.where(backdoor, 0.0, 1e-3), free_intercept=True)
    found = direction(kernel, y, solution, backdoor * 1e-3, free_intercept=True)
    assert found.status is Status.NO_MARGIN_VECTORS and np.isnan(found.db)
    path = svm_path(kernel, y, 1e-3 * ~backdoor, 1e-3 * backdoor, free_intercept=True)
    assert path.residuals(np.linspace(0.0, 1.0, 7)).max() < 1e-12


def test_all_samples_on_one_spot():
    y = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    late = np.arange(6) >= 4
    path = svm_path(kernel_rows(np.ones((6, 2))), y, 10.0 * ~late, 10.0 * late, free_intercept=True)
    assert path.residuals(np.linspace(0.0, 1.0, 5)).max() < 1e-12


def test_path_between_two_betas_is_a_part_of_the_whole():
    case = random_case(9)
    whole = path_of(case)
    part = svm_path(
        case.kernel,
        case.y,
        case.base,
        case.rate,
        free_intercept=case.free,
        beta_min=0.2,
        beta_max=0.6,
    )
    betas = np.linspace(0.2, 0.6, 9)
    scores = [case.kernel.dot(p.at(betas)[0].T) for p in (whole, part)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-8)
    assert part.breakpoints[0] == 0.2 and part.breakpoints[-1] == 0.6
