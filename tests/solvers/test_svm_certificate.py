"""Stated bounds against the exact solution, found in sixty digits from the samples themselves."""

import numpy as np
import pytest
from svm_cases import random_case

from learningcurves.solvers.active_set import solve_at
from learningcurves.solvers.dual import DualSolution
from learningcurves.solvers.svm_certificate import svm_certificate

mp = pytest.importorskip("mpmath")


def exact_kernel(case):
    rows = [[mp.mpf(float(x)) for x in row] for row in case.X]
    N, spec = len(rows), case.spec
    K = mp.matrix(N, N)
    for i in range(N):
        for j in range(i + 1):
            inner = mp.fsum(a * b for a, b in zip(rows[i], rows[j], strict=True))
            if spec is None:
                value = inner
            elif spec.name == "rbf":
                square = mp.fsum((a - b) ** 2 for a, b in zip(rows[i], rows[j], strict=True))
                value = mp.exp(-mp.mpf(float(spec.gamma)) * square)
            else:
                value = (mp.mpf(float(spec.gamma)) * inner + mp.mpf(float(spec.coef0))) ** int(spec.degree)
            K[i, j] = K[j, i] = value + mp.mpf(case.kernel.constant)
    return K


def exact_solution(case, K, found):
    """v and b for the sets of `found` in sixty digits, and the duality gap that shows them optimal."""
    N, S = len(case.y), np.flatnonzero(found.free).tolist()
    v = [mp.mpf(0) if i in S else mp.mpf(float(found.v[i])) for i in range(N)]
    b, size = mp.mpf(float(found.b)), len(S) + case.free
    if S:
        A, r = mp.matrix(size, size), mp.matrix(size, 1)
        for p, i in enumerate(S):
            for q, j in enumerate(S):
                A[p, q] = K[i, j]
            r[p] = mp.mpf(case.y[i]) - mp.fsum(K[i, j] * v[j] for j in range(N))
            if case.free:
                A[p, size - 1] = A[size - 1, p] = 1
        if case.free:
            r[size - 1] = -mp.fsum(v)
        x = mp.lu_solve(A, r)
        for p, i in enumerate(S):
            v[i] = x[p]
        b = x[size - 1] if case.free else mp.mpf(0)
    gap, outside = mp.mpf(0), mp.mpf(0)
    for i in range(N):
        alpha, c = v[i] * int(case.y[i]), mp.mpf(float(found.upper[i]))
        margin = int(case.y[i]) * (mp.fsum(K[i, j] * v[j] for j in range(N)) + b)
        outside = max(outside, -alpha, alpha - c)
        gap += max(c - alpha, 0) * max(1 - margin, 0) + max(alpha, 0) * max(margin - 1, 0)
    return v, b, gap, outside


def distance(K, difference):
    N = len(difference)
    return float(mp.sqrt(abs(mp.fsum(difference[i] * K[i, j] * difference[j] for i in range(N) for j in range(N)))))


@pytest.mark.parametrize("first", range(0, 64, 16))
def test_bounds_hold(first):
    n_checked = n_certain = 0
    with mp.workdps(60):
        for seed in range(first, first + 16):
            case = random_case(seed, n_most=16)
            beta = (0.0, 0.3, 1.0)[seed % 3]
            found = solve_at(case.kernel, case.y, case.upper(beta), free_intercept=case.free)
            K = exact_kernel(case)
            try:
                v, b, gap, outside = exact_solution(case, K, found)
            except ZeroDivisionError:  # samples that coincide up to rounding
                continue
            if outside > 1e-14 * float(found.upper.max()):
                continue
            # the reference is itself only as good as its gap
            unsure = float(mp.sqrt(gap + outside * len(v) * float(found.upper.max() * case.kernel.diagonal.max())))
            rng = np.random.default_rng(seed)
            for noise in (0.0, 1e-6):  # the solution, and a worse point beside it
                point = found if noise == 0.0 else _disturbed(case, found, noise, rng)
                stated = svm_certificate(
                    case.kernel, case.y, point.upper, point, reg=case.reg, free_intercept=case.free
                )
                error = distance(K, [mp.mpf(float(a)) - c for a, c in zip(point.v, v, strict=True)])
                assert error <= stated.bound + unsure, (seed, noise)
                if case.free and found.intercept_is_unique and gap < 1e-30:
                    assert abs(point.b - b) <= stated.intercept_bound, (seed, noise)
                n_certain += stated.certain and noise == 0.0
            n_checked += 1
    assert n_checked >= 12 and n_certain >= 5


def _disturbed(case, found, noise, rng):
    alpha = case.y * found.v
    alpha = np.clip(alpha * (1 + noise * rng.normal(size=len(alpha))), 0.0, found.upper)
    if case.free:  # balanced again, on the side that is too heavy
        total = float(case.y @ alpha)
        heavy = (case.y == np.sign(total)) & (alpha > 0)
        alpha[heavy] *= 1 - abs(total) / alpha[heavy].sum() if heavy.any() else 1.0
    v = case.y * alpha
    b = found.b + noise * rng.normal() if case.free else 0.0
    f = case.kernel.dot(v) + b
    return DualSolution(v, b, f, found.free, found.at_upper, found.upper, (b, b), found.status, noise, 0, found.factor)


def test_bounds_of_exact_solutions_are_small():
    bounds = []
    for seed in range(60):
        case = random_case(seed)
        found = solve_at(case.kernel, case.y, case.upper(1.0), free_intercept=case.free)
        stated = svm_certificate(case.kernel, case.y, found.upper, found, reg=case.reg, free_intercept=case.free)
        norm = np.sqrt(max(found.v @ case.kernel.matrix @ found.v, 1e-300))
        bounds.append(stated.bound / norm)
        assert stated.gap >= 0.0 and stated.residual <= 1e-9 * max(1.0, 1e-6 * case.size(found.v))
    assert np.median(bounds) < 1e-8
