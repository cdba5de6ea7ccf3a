"""A fitted scikit-learn estimator, alone or behind fixed transformers, mapped to one of our learners."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC
from sklearn.utils.validation import check_is_fitted

from learningcurves.checks import check_number
from learningcurves.data.problem import BackdoorProblem
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.learners.readers import READERS, Adapted

SUPPORTED = (
    "LogisticRegression with the l2 penalty (every solver, binary and multinomial), RidgeClassifier, LinearSVC and SVC "
    "(two classes), a Pipeline of fitted transformers in front of one of them, a GridSearchCV or RandomizedSearchCV "
    "around one of them, and the package's own learners (lc.Logistic, lc.Ridge, lc.LinearSVM, lc.KernelSVM, lc.Softmax)"
)


def adapt(model, problem, at=0.0) -> Adapted:
    r"""Map a fitted scikit-learn estimator to its exact objective.

    ==========================  ===============================  =========================  ======================
    estimator                   loss (m = y f)                   lambda                     mu (weight of b^2)
    ==========================  ===============================  =========================  ======================
    LogisticRegression          log(1 + exp(-m)), or softmax     1 / C                      0
    \- solver="liblinear"       log(1 + exp(-m))                 1 / C                      1 / intercept_scaling^2
    RidgeClassifier             (1 - m)^2 / 2                    alpha                      0
    LinearSVC                   max(0, 1 - m) or its square      1 / C                      1 / intercept_scaling^2
    SVC                         max(0, 1 - m)                    1 / C                      0
    ==========================  ===============================  =========================  ======================

    Parameters
    ----------
    model : fitted scikit-learn estimator
        Trained on the problem's clean samples (`at=0`), or on both kinds.
    problem : BackdoorProblem
        In the features that `model` takes, before its own transformers.
    at : float, default=0.0
        The weight of the backdoor samples that `model` was trained with. It decides which samples a "balanced" class
        weight counted (0: the clean ones only) and which rows and dual weights an SVC may have.

    Returns
    -------
    Adapted

    Raises
    ------
    NotSupported
        Another estimator, or a setting whose objective the package has no exact derivative for.
    InvalidInput
        Not fitted, other classes or features than the problem, or an SVC that was trained on other samples.

    Notes
    -----
    The mapped decision function is compared with the estimator's own on some rows of the problem, to 1e-9.
    Sample weights other than `at` leave no trace in a fitted estimator; one trained with them is found by its
    optimality, not here.
    """
    if not isinstance(problem, BackdoorProblem):
        raise InvalidInput(f"`problem` is a {type(problem).__name__}; expected a BackdoorProblem, see lc.poison.")
    at = check_number(at, "at", low=0.0, high=1.0, hint="It is the backdoor weight that `model` was trained with.")
    steps, final = _unwrap(model)
    _check_settings(final)
    for step in (*steps, final):
        _check_fitted(step)
    _check_features(steps[0] if steps else final, problem)
    _check_classes(final, problem)
    inner = _transform_problem(steps, problem)
    if steps:
        _check_features(final, inner)
    adapted = READERS[type(final)](final, inner, at)
    _check_decision(adapted, final)
    return adapted


def _unwrap(model):
    """Return the transformers in front and the classifier at the end."""
    steps = []
    while True:
        if isinstance(model, GridSearchCV | RandomizedSearchCV):
            if not hasattr(model, "best_estimator_"):
                raise InvalidInput(
                    f"`model` is a {type(model).__name__} without `best_estimator_`. "
                    "Fit it first, with `refit=True`, or pass the fitted estimator itself."
                )
            model = model.best_estimator_
        elif isinstance(model, Pipeline):
            for name, step in model.steps[:-1]:
                if step is None or step == "passthrough":
                    continue
                if not hasattr(step, "transform") or hasattr(step, "fit_resample"):
                    raise NotSupported(
                        f"The pipeline's step {name!r} ({type(step).__name__}) is not a fixed transformer of features: "
                        "steps that drop or draw samples change the training set. Resample first, fit afterwards."
                    )
                steps.append(step)
            model = model.steps[-1][1]
        elif isinstance(model, type):
            raise NotSupported(
                f"`model` is the class {model.__name__}, not a fitted instance of it. Call `.fit` first."
            )
        elif type(model) not in READERS:
            raise NotSupported(f"`model` is a {type(model).__name__}, which is not supported. Supported: {SUPPORTED}.")
        else:
            return steps, model


def _check_fitted(estimator):
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise InvalidInput(
            f"`model` is not fitted ({type(estimator).__name__}). Call `model.fit(problem.X_clean, problem.y_clean)` "
            "first, or pass one of the package's learners, which is fitted when needed."
        ) from None
    except (TypeError, AttributeError):
        return  # a transformer without scikit-learn's base class: its own `transform` complains if it must


def _check_features(estimator, problem):
    expected = getattr(estimator, "n_features_in_", problem.n_features)
    name = type(estimator).__name__
    if getattr(estimator, "kernel", None) == "precomputed":
        n_rows = problem.n_clean + problem.n_backdoor
        if problem.n_features != n_rows or expected not in (problem.n_clean, n_rows):
            raise InvalidInput(
                f"`model` has a precomputed kernel of {expected} rows and the problem {problem.n_features} columns. A "
                f"kernel row holds k(x, x_i) for the {problem.n_clean} clean and then the {problem.n_backdoor} backdoor "
                "samples; the model is trained on the square block of the clean, or of all, samples."
            )
    elif expected != problem.n_features:
        raise InvalidInput(
            f"`model` ({name}) was trained on {expected} features where the problem has {problem.n_features}. "
            "Pass the whole Pipeline, or make the problem from the features the model was trained on."
        )


def _check_classes(final, problem):
    if not np.array_equal(final.classes_, problem.classes):
        raise InvalidInput(
            f"`model` knows the classes {final.classes_.tolist()} where the problem's clean samples have "
            f"{problem.classes.tolist()}. Train it on the problem's own labels."
        )


def _check_settings(final):
    """Refuse, by name and reason, the settings whose objective is not ours."""
    name, multi_class = type(final).__name__, getattr(final, "multi_class", None)
    penalty = getattr(final, "penalty", "l2")
    if penalty == "deprecated" or (penalty == "elasticnet" and final.l1_ratio == 0):
        penalty = "l2" if final.l1_ratio in (None, 0) else f"l1_ratio={final.l1_ratio}"
    if (
        penalty is None
        or np.isinf(getattr(final, "C", 1.0))
        or (name == "RidgeClassifier" and np.all(final.alpha == 0))
    ):
        raise NotSupported(
            f"{name} without regularisation: its optimum need not exist or be unique, so it has no derivative. "
            "Train it with a finite `C` (a positive `alpha`)."
        )
    if penalty != "l2":
        raise NotSupported(
            f"{name} with the penalty {penalty!r}: the l1 norm has no second derivative. Supported is the l2 penalty."
        )
    if getattr(final, "positive", False):
        raise NotSupported("RidgeClassifier(positive=True) is a constrained fit. Supported is `positive=False`.")
    n_classes = len(getattr(final, "classes_", ()))
    softmax = name == "LogisticRegression"
    if softmax and n_classes == 2 and multi_class == "multinomial":
        raise NotSupported("LogisticRegression(multi_class='multinomial') of two classes. Leave `multi_class` out.")
    if multi_class == "crammer_singer":
        raise NotSupported("LinearSVC(multi_class='crammer_singer'). Supported is the default, with two classes.")
    if n_classes > 2 and (not softmax or multi_class == "ovr" or final.solver == "liblinear"):
        raise NotSupported(
            f"{name} of {n_classes} classes is several separate binary fits (one class against the rest, or pairs). "
            "Supported for more than two classes: the multinomial LogisticRegression (default solver), or lc.Softmax."
        )


def _transform_problem(steps, problem):
    """Return the problem behind the transformers; what was an image is one no longer."""
    if not steps:
        return problem
    parts: dict[str, Any] = {}
    for part in ("clean", "test", "triggered", "backdoor"):
        X = getattr(problem, f"X_{part}")
        parts[f"X_{part}"] = _transform(steps, X) if X.shape[0] else parts["X_clean"][:0]
    some = problem.X_clean[:5]
    first, second = _transform(steps, some), _transform(steps, some)
    if first.shape[0] != some.shape[0] or _difference(first, second) != 0:
        raise NotSupported(
            "The pipeline's transformers give other values on a second call, or another number of rows. Only fixed "
            "transformers are supported: transform the samples once and pass the last step with a problem made of them."
        )
    return replace(problem, **parts, image_shape=None, value_range=None)


def _transform(steps, X) -> Any:
    for step in steps:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="X does not have valid feature names")
                X = step.transform(_named(step, X))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise InvalidInput(
                f"The pipeline's {type(step).__name__} cannot transform the problem's samples: {error}. "
                "Make the problem from the features that the pipeline was fitted on."
            ) from error
        X = sp.csr_matrix(X) if sp.issparse(X) else np.asarray(X)
    return X


def _named(estimator, X):
    """Return rows as a table when the estimator was fitted on one (it may pick its columns by name)."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None or sp.issparse(X) or X.shape[1] != len(names):
        return X
    return pd.DataFrame(X, columns=names)


def _difference(A, B):
    difference = abs(A - B)
    return difference.max() if 0 not in difference.shape else 0.0


def _check_decision(adapted, final):
    """Compare our f with the estimator's own on rows spread over the problem."""
    parts = [getattr(adapted.problem, f"X_{part}") for part in ("clean", "triggered")]
    parts = [X[np.unique(np.linspace(0, X.shape[0] - 1, 5).astype(int))] for X in parts]
    # one call: checking its input costs scikit-learn more than the decision
    X = sp.vstack(parts, format="csr") if sp.issparse(parts[0]) else np.vstack(parts)
    split = parts[0].shape[0]
    pairs = zip(*(np.split(f, [split]) for f in (adapted.decision(X), _decision(final, X))), strict=True)
    for part, rows, (ours, theirs) in zip(("clean", "triggered"), parts, pairs, strict=True):
        error = np.abs(ours - theirs).max()
        if not error <= 1e-9 * (1.0 + np.abs(theirs).max()) + 1e-9 * adapted.magnitude(rows):
            raise InvalidInput(
                f"`model`'s own decision function differs from that of its parameters by {error:.2e} on {part} samples: "
                "its attributes or parameters were changed after the fit. Fit it again."
            )


def _decision(final, X):
    if getattr(final, "kernel", None) == "precomputed":
        X = X[:, : final.n_features_in_]
    if isinstance(final, SVC) and sp.issparse(X) and not final._sparse:
        X = X.toarray()
    return np.asarray(final.decision_function(_named(final, X)), dtype=np.float64)
