"""From whatever the user hands over to an objective, a problem and, if given, parameters."""

import sys
import warnings
from dataclasses import dataclass, replace

import numpy as np
from sklearn.base import BaseEstimator, clone

from learningcurves.data.problem import BackdoorProblem
from learningcurves.errors import ConvergenceWarning, InvalidInput, NotSupported, Status
from learningcurves.learners.learners import _Learner
from learningcurves.solvers.certificate import relative_gradient
from learningcurves.solvers.memory import check_fits
from learningcurves.solvers.newton import SmoothFit
from learningcurves.solvers.objective import Objective, training_samples
from learningcurves.solvers.smooth import SmoothSystem

OPTIMAL = 1e-6  # relative residual below which given parameters count as the optimum


@dataclass(frozen=True)
class Resolved:
    """A model in the solvers' terms.

    Attributes
    ----------
    learner : estimator
        One of the package's learners.
    objective : Objective
    problem : BackdoorProblem
        In the features the learner sees (after a pipeline's transformers).
    coef, intercept : ndarray (1, d, K), (1, K), or None
        Given parameters of a linear model.
    dual : ndarray (N,) or None
        Given signed dual weights.
    residual : float or None
        Relative optimality residual of the given parameters at the given beta.
    system : SmoothSystem or None
        The samples as matrices (smooth losses), where the residual already needed them.
    fit : SmoothFit or None
        The given parameters in it.
    """

    learner: BaseEstimator
    objective: Objective
    problem: BackdoorProblem
    coef: np.ndarray | None = None
    intercept: np.ndarray | None = None
    dual: np.ndarray | None = None
    residual: float | None = None
    system: SmoothSystem | None = None
    fit: SmoothFit | None = None

    def with_reg(self, reg: float) -> "Resolved":
        """Return the same at another lambda; given parameters belong to the old one and are dropped."""
        return Resolved(clone(self.learner).set_params(reg=reg), self.objective.with_reg(reg), self.problem)

    @property
    def is_given(self) -> bool:
        """Whether trained parameters came with the model."""
        return self.intercept is not None


def is_module(model) -> bool:
    """Whether `model` is a torch module; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def refuse_options(options):
    """Refuse keyword arguments that only torch modules take, and those that nothing takes."""
    if options:
        name = next(iter(options))
        raise InvalidInput(
            f"`{name}` is no option of this model. (Torch modules have more, such as `loss` and `head`.)"
        )


def resolve(model, problem, *, at=0.0, warn=True, n_beta=1) -> Resolved:
    """Map a learner or fitted estimator to its objective; measure given parameters against it.

    A given model whose relative gradient exceeds 1e-6 raises a ConvergenceWarning with the number. A solve at `n_beta`
    values of beta that would not fit into memory is refused here, before any work.
    """
    if not isinstance(problem, BackdoorProblem):
        raise InvalidInput(
            f"`problem` is a {type(problem).__name__}; expected a BackdoorProblem: lc.poison(data, trigger, ...) makes "
            "one, or BackdoorProblem(X_clean, y_clean, X_backdoor, y_backdoor, X_test, y_test, X_triggered, y_triggered)."
        )
    if isinstance(model, type):
        raise NotSupported(f"`model` is the class {model.__name__}; pass an instance, for example {model.__name__}().")
    if isinstance(model, _Learner):
        if problem.is_sparse and model._kernel:
            raise InvalidInput(
                f"`problem` is sparse, which only linear learners take, and `model` is a {type(model).__name__}. "
                "Make the problem from dense arrays (`X.toarray()`)."
            )
        n_rows = problem.n_clean + problem.n_backdoor
        if getattr(model, "kernel", None) == "precomputed" and problem.n_features != n_rows:
            raise InvalidInput(
                f"`X_clean` has {problem.n_features} columns; with kernel='precomputed' every row must hold the kernel "
                f"with all {n_rows} training samples (clean, then backdoor)."
            )
        objective = model.objective(problem.X_clean)
        check_fits(problem, objective, n_beta)
        return Resolved(model, objective, problem)
    from learningcurves.learners.adapters import adapt

    adapted = adapt(model, problem, at=at)
    objective = adapted.learner.objective(adapted.problem.X_clean)
    check_fits(adapted.problem, objective, n_beta)
    coef, intercept = _as_columns(adapted)
    found = Resolved(adapted.learner, objective, adapted.problem, coef, intercept, adapted.dual)
    residual, system, fit = given_residual(found, at)
    found = replace(found, residual=residual, system=system, fit=fit)
    if warn and residual > OPTIMAL:
        warnings.warn(
            f"The given {adapted.kind} is not at the optimum of its own objective at beta={at:g}: relative residual "
            f"{residual:.1e} > {OPTIMAL:.0e}. {_remedy(found, at)}",
            ConvergenceWarning,
            stacklevel=3,
        )
    return found


def _remedy(found, at):
    """Say what to do about a model that is off its optimum at one beta: it may be at that of the other end."""
    if at in (0, 1) and found.objective.loss.name != "hinge" and found.problem.n_backdoor:
        other = given_residual(found, 1.0 - at)[0]
        if other < 0.1 * found.residual:
            trained = "with the backdoor samples" if at == 0 else "without the backdoor samples"
            return (
                f"It was trained {trained}, it seems: at beta={1 - at:g} the residual is {other:.1e}. "
                f"Take the slope `at={1 - at:g}`, or pass `refine=True` to solve anew."
            )
    return "Pass `refine=True` to polish it, or train it to a smaller `tol`."


def _as_columns(adapted):
    intercept = np.atleast_1d(np.asarray(adapted.intercept, dtype=float))[None, :]
    if adapted.coef is None:
        return None, intercept
    coef = np.atleast_2d(adapted.coef)
    return coef.T[None], intercept


def given_residual(resolved: Resolved, at: float):
    """Relative optimality residual of given parameters at one beta; the system it was measured in and their fit there.

    The last two are None for hinge losses.
    """
    objective = resolved.objective
    if objective.loss.name == "hinge":
        from learningcurves.solvers.svm import given_violation

        samples = training_samples(resolved.problem, objective)
        return given_violation(objective, samples, at, resolved.coef, resolved.intercept, resolved.dual), None, None
    problem = resolved.problem
    # at beta = 0 the clean samples say all, as long as no feature is left out that only backdoor samples have
    alone = at == 0 and not problem.is_sparse and problem.n_features <= problem.n_clean
    samples = training_samples(problem, objective, backdoor=not alone)
    system = SmoothSystem(samples, objective, lean=alone)
    beta = np.array([at], dtype=float)
    theta, weights = system.pack(resolved.coef, resolved.intercept), samples.at(beta)
    scores = system.scores(theta)
    gradient = system.gradient(theta, scores, weights)
    residual = relative_gradient(system, theta, gradient, weights)
    return float(residual[0]), system, SmoothFit(beta, theta, scores, gradient, weights, residual, [Status.OK])
