"""Pairwise influence of training samples on triggered test samples, held as two thin factors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from learningcurves.checks import check_choice, check_integer, check_number
from learningcurves.errors import InvalidInput, SolveFailed
from learningcurves.learners.resolve import Resolved, is_module, refuse_options, resolve
from learningcurves.solvers.linear_solve import conjugate_gradients
from learningcurves.solvers.memory import check_influence_fits
from learningcurves.solvers.objective import encode_labels, training_samples
from learningcurves.solvers.path import solve
from learningcurves.solvers.preconditioners import preconditioner

BLOCK = 64  # right-hand sides solved side by side


@dataclass(frozen=True, eq=False)
class PairwiseInfluence:
    r"""I(t, j): derivative of the loss of test sample t in the weight of training sample j.

    .. math:: I(t, j) = -\nabla\ell_t^\top H^{-1} \nabla\ell_j = (A B^\top)_{tj}

    Negative: sample j helps the attacker on t. Its sum over the backdoor samples and mean over t is the slope.

    Attributes
    ----------
    left : ndarray (k, r)
    right : ndarray (m, r)
    samples : str
        "backdoor" (rows of `problem.X_backdoor`), "clean" or "training" (clean, then backdoor).
    """

    left: np.ndarray
    right: np.ndarray
    samples: str

    @property
    def shape(self) -> tuple[int, int]:
        """(number of triggered test samples, number of training samples)."""
        return self.left.shape[0], self.right.shape[0]

    def __repr__(self):
        k, m = self.shape
        return (
            f"PairwiseInfluence of {m} {self.samples} samples on {k} triggered test samples, "
            f"in factors of {self.left.shape[1]} columns; .block() and .top() read it"
        )

    def block(self, rows=slice(None), cols=slice(None)) -> np.ndarray:
        """I(t, j) for some test samples (rows) and training samples (cols)."""
        return -(self.left[rows] @ self.right[cols].T)

    def top(self, t: int, n: int = 7, *, kind: str = "both"):
        """Most influential training samples of test sample t.

        Returns
        -------
        (helpful, harmful) : pairs of arrays (indices, values)
            helpful: the n most negative (they help the attacker), harmful: the n most positive, strongest first.
            With `kind="helpful"` or `"harmful"` that pair alone; samples without influence in that direction are
            left out.
        """
        check_choice(kind, "kind", ("both", "helpful", "harmful"))
        t = check_integer(t, "t", low=0, high=self.shape[0] - 1, hint="It is the index of a triggered test sample.")
        n = check_integer(n, "n", low=1)
        values = self.block(slice(t, t + 1))[0]
        order = np.argsort(values, kind="stable")
        helpful = order[:n][values[order[:n]] < 0]
        harmful = order[::-1][:n][values[order[::-1][:n]] > 0]
        pairs = {"helpful": (helpful, values[helpful]), "harmful": (harmful, values[harmful])}
        return (pairs["helpful"], pairs["harmful"]) if kind == "both" else pairs[kind]

    def mean(self) -> np.ndarray:
        """Mean over the test samples, shape (m,): the slope's share of every training sample."""
        return -(self.right @ self.left.mean(axis=0))


def pairwise_influence(model, problem, at=0.0, *, samples="backdoor", refine=False, **network_options):
    r"""Influence of every training sample on every triggered test sample, as thin factors [1]_.

    .. math:: I(t, j) = -\nabla\ell_t^\top H^{-1} s_j \nabla\ell_j

    is the derivative of the loss of test sample t in the weight of training sample j, in units of the loss; negative: sample
    j helps the attacker on t. Hinge losses have a conditional kernel in place of the inverse (docs/theory.md, section 4).

    Parameters
    ----------
    model, problem, at, refine
        As for `backdoor_slope`.
    samples : {"backdoor", "clean", "training"}, default="backdoor"
        Whose influence; "training" is the clean samples, then the backdoor.
    **network_options
        For a torch module, as for `backdoor_slope`.

    Returns
    -------
    PairwiseInfluence
        Never forms the (k, m) matrix; ask for blocks.

    References
    ----------
    .. [1] Koh and Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017, eq. (2).
    """
    at = check_number(at, "at", low=0.0, high=1.0, hint="It is the weight of the backdoor samples.")
    check_choice(samples, "samples", ("backdoor", "clean", "training"))
    if is_module(model):
        from learningcurves.networks.last_layer import given_start
        from learningcurves.networks.slope import module_task

        task = module_task(model, problem, at=at, **network_options)
        resolved, training = Resolved(task.learner, task.objective, task.problem), task.samples
        start = given_start(task)
    else:
        start = None
        refuse_options(network_options)
        resolved = resolve(model, problem, at=at, warn=not refine)
        training = training_samples(resolved.problem, resolved.objective)
    rows = {
        "backdoor": slice(training.n_clean, None),
        "clean": slice(0, training.n_clean),
        "training": slice(None),
    }[samples]
    if len(training.y[rows]) == 0:
        raise InvalidInput("`problem` holds no backdoor samples, so there is no influence of them; see `samples=`.")
    if not is_module(model):
        check_influence_fits(resolved.problem, resolved.objective, len(training.y[rows]))
    if resolved.objective.loss.name == "hinge":
        from learningcurves.solvers.hinge_influence import hinge_influence

        left, right = hinge_influence(resolved.objective, training, at, rows, resolved.problem)
    else:
        left, right = _smooth_influence(resolved, training, at, rows, start)
    return PairwiseInfluence(left, right, samples)


def _smooth_influence(resolved, training, at, rows, start):
    path = solve(resolved.objective, training, np.array([at]), start=start)
    path.raise_if_failed()
    system: Any = path.system
    fit: Any = path.fit
    problem = resolved.problem
    loss = getattr(problem, "test_loss", None) or system.loss
    y = encode_labels(problem.y_triggered, problem.classes, loss)
    outer = loss.gradient(path.scores(problem.X_triggered), y)[:, 0]  # (k, K)
    inner = system.loss.gradient(fit.scores[rows], system.y[rows])[:, 0] * training.weight[rows, None]
    X = system.X[rows]
    X = X.toarray() if sp.issparse(X) else X
    right, inverse = [], fit.inverse or preconditioner(system, fit.scores, fit.weights)
    for i in range(0, len(X), BLOCK):
        rhs = np.einsum("np,nk->pnk", X[i : i + BLOCK], inner[i : i + BLOCK])
        right.append(_solve_block(system, fit, rhs, inverse))
    solved = np.concatenate(right, axis=1)
    coef, intercept = system.unpack(solved)  # (m, d, K), (m, K)
    test = problem.X_triggered.toarray() if problem.is_sparse else problem.X_triggered
    ones = np.ones((len(y), 1))
    features = np.hstack([test, ones]) if system.has_intercept else test
    stacked = np.concatenate([coef, intercept[:, None, :]], axis=1) if system.has_intercept else coef
    left = np.einsum("nk,np->nkp", outer, features).reshape(len(y), -1)
    return left, stacked.transpose(0, 2, 1).reshape(len(stacked), -1)


def _solve_block(system, fit, rhs, inverse):
    n = rhs.shape[1]
    scores, weights = np.repeat(fit.scores[:, :1], n, axis=1), np.repeat(fit.weights[:, :1], n, axis=1)
    solution, relative, _, status = conjugate_gradients(
        lambda v: system.product(scores, weights, v), rhs, inverse, rtol=1e-11
    )
    if not status.ok or np.max(relative) > 1e-6:
        raise SolveFailed(f"Influence solve ended with: {status.value} (residual {np.max(relative):.1e}).", status)
    return solution
