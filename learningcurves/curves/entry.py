"""Curve and slope of any model: a learner, a fitted scikit-learn estimator, or a torch module."""

from typing import Any

import numpy as np

from learningcurves.checks import check_beta, check_flag, check_number, check_reg
from learningcurves.curves.curve import DEFAULT_BETA, LearningCurves, assemble
from learningcurves.curves.scores import score_path
from learningcurves.curves.slope import Slope
from learningcurves.curves.slope_error import smooth_slope
from learningcurves.errors import InvalidInput, Status
from learningcurves.learners.resolve import OPTIMAL, is_module, refuse_options, resolve
from learningcurves.solvers.objective import training_samples
from learningcurves.solvers.path import share, solve
from learningcurves.solvers.weight_path import restrict


def learning_curve(model, problem, beta=None, *, reg=None, refine=False, **network_options):
    r"""Backdoor learning curve: train with the backdoor samples weighted by beta, for every beta.

    .. math:: w^\star(\beta) = \arg\min_w \sum_{clean} s_i \ell_i(w) + \beta \sum_{backdoor} s_j \ell_j(w)
              + \tfrac{\lambda}{2} (\|w\|^2 + \mu b^2)

    Parameters
    ----------
    model : learner, fitted scikit-learn estimator, or torch module
        `lc.Logistic`, `lc.Ridge`, `lc.LinearSVM`, `lc.KernelSVM`, `lc.Softmax`; or a fitted LogisticRegression,
        RidgeClassifier, LinearSVC, SVC or Pipeline, whose objective is taken over exactly.
    problem : BackdoorProblem
        For a torch module also its parts by name, see `networks.as_network_data`.
    beta : array of shape (B,), optional
        Increasing weights in [0, 1]; by default 21 values, dense near 0.
    reg : float or sequence of float, optional
        lambda in place of the model's own; several give a `LearningCurves`, which shares all common work.
    refine : bool, default=False
        Accept without a warning that a given fitted model is not at the optimum (every point of the curve is
        solved exactly either way).
    **network_options
        For a torch module: `loss`, `parameters`, `head`, `batch_size`, ... (`learningcurves.networks.slope`).

    Returns
    -------
    LearningCurve, or LearningCurves when `reg` is a sequence

    Raises
    ------
    InvalidInput
        Before any work, naming the argument.

    References
    ----------
    .. [1] Cinà et al., "Backdoor Learning Curves: Explaining Backdoor Poisoning Beyond Influence Functions".
    """
    beta, refine = check_beta(DEFAULT_BETA if beta is None else beta), check_flag(refine, "refine")
    if is_module(model):
        from learningcurves.networks.slope import module_curve

        return module_curve(model, problem, beta, **({} if reg is None else {"reg": reg}), **network_options)
    refuse_options(network_options)
    regs = None if reg is None else [check_reg(r) for r in np.atleast_1d(np.asarray(reg, dtype=object))]
    if regs is not None and not regs:
        raise InvalidInput("`reg` is empty. Give at least one positive value.")
    resolved = resolve(model, problem, warn=not refine, n_beta=len(beta))
    objective, problem, learner = resolved.objective, resolved.problem, resolved.learner
    samples = training_samples(problem, objective)
    regs_used = [objective.reg] if regs is None else regs
    asked = np.union1d(beta, [0.0, 1.0])
    shared = share(objective, samples, len(regs_used))
    order = np.argsort(-np.asarray(regs_used))  # strong regularisation first: each solution starts the next
    curves: list[Any] = [None] * len(regs_used)
    start = None
    for i in order:
        path = solve(objective.with_reg(regs_used[i]), samples, asked, start=start, shared=shared)
        start = restrict(path, [0, len(asked) - 1])
        curves[i] = assemble(_at_reg(learner, regs_used[i]), problem, path, beta)
    return curves[0] if reg is None or np.ndim(reg) == 0 else LearningCurves(tuple(curves))


def _at_reg(learner, reg):
    from sklearn.base import clone

    return learner if learner.reg == reg else clone(learner).set_params(reg=reg)


def backdoor_slope(model, problem, at=0.0, *, reg=None, refine=False, **network_options) -> Slope:
    r"""Slope of the backdoor learning curve at one beta, by implicit differentiation.

    .. math:: \frac{dL}{d\beta} = -\nabla L_{test}^\top H^{-1} \sum_{backdoor} s_j \nabla \ell_j

    with H the Hessian of J(.; at) (docs/theory.md, section 3); for hinge losses the one-sided derivative of the
    piecewise linear path (section 5).

    Parameters
    ----------
    model : learner, fitted scikit-learn estimator, or torch module
        A learner is fitted here, exactly. A fitted estimator is taken as it is: its objective exactly, its
        parameters as given.
    problem : BackdoorProblem
        For a torch module also its parts by name, see `networks.as_network_data`.
    at : float, default=0.0
        Weight of the backdoor samples at which the slope is taken.
    reg : float, optional
        lambda in place of the model's own. For a torch module: of the head, in standardised features (1e-2).
    refine : bool, default=False
        Solve to the exact optimum first, starting from a given fitted model. Without it a model that is not at its
        optimum raises a ConvergenceWarning and its slope is marked `Status.NOT_OPTIMAL`.
    **network_options
        For a torch module: `loss`, `parameters`, `head`, `batch_size`, ... (`learningcurves.networks.slope`).

    Returns
    -------
    Slope
        Negative: the backdoor is learned.

    References
    ----------
    .. [1] Koh and Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017, eq. (2), here for
       a group of samples entering at weight `at`.
    """
    at = check_number(at, "at", low=0.0, high=1.0, hint="It is the weight of the backdoor samples.")
    refine = check_flag(refine, "refine")
    if is_module(model):
        from learningcurves.networks.slope import module_slope

        return module_slope(
            model, problem, at, refine=refine, **({} if reg is None else {"reg": reg}), **network_options
        )
    refuse_options(network_options)
    resolved = resolve(model, problem, at=at, warn=not refine)
    if reg is not None:
        resolved = resolved.with_reg(check_reg(reg))
    objective, problem = resolved.objective, resolved.problem
    refit = (objective, problem)
    if objective.loss.name == "hinge":
        return _hinge_slope(resolved, training_samples(problem, objective), at, refine, refit)
    if resolved.is_given and not refine:
        system: Any = resolved.system
        fit: Any = resolved.fit
    else:
        path = solve(objective, training_samples(problem, objective), np.array([at]))
        path.raise_if_failed()
        system, fit = path.system, path.fit
    parts = smooth_slope(system, fit, problem)
    loose = resolved.residual is not None and not refine and resolved.residual > OPTIMAL
    status = Status.NOT_OPTIMAL if loose and parts.status.ok else parts.status
    value = parts.value if parts.status.ok else float("nan")
    return Slope(
        value,
        parts.error_bound,
        status,
        parts.residual,
        parts.certificate,
        np.inf,
        parts.loss,
        at,
        objective.reg,
        refit,
    )


def _hinge_slope(resolved, samples, at, refine, refit) -> Slope:
    from learningcurves.solvers.svm import svm_weight_path

    given = resolved.dual if resolved.is_given and not refine else None
    path = svm_weight_path(resolved.objective, samples, np.array([at]), given=given)
    path.raise_if_failed()
    scores = score_path(path, resolved.problem)
    status = path.derivative_status[0]
    value = float(scores.slope[0]) if status.ok else float("nan")
    if resolved.residual is not None and not refine and resolved.residual > OPTIMAL and status.ok:
        status = Status.NOT_OPTIMAL
    return Slope(
        value,
        float(path.derivative_bound(resolved.problem)) if np.isfinite(value) else float("nan"),
        status,
        float(path.derivative_residual[0]),
        path.certificates[0],
        float(path.breakpoint[0]),
        float(scores.loss_triggered[0]),
        at,
        resolved.objective.reg,
        refit,
    )
