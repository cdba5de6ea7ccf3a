"""Checks of arguments: each names the argument, says what came, and the way out."""

import numbers
from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp

from learningcurves.errors import InvalidInput
from learningcurves.memory import check_memory


def check_number(value, name, *, low=None, high=None, open_low=False, hint=""):
    """Return `value` as float if it is a finite real number within the limits."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real | np.number):
        raise InvalidInput(f"`{name}={value!r}` is not a number. {hint}".rstrip())
    value = float(value)
    below = low is not None and (value <= low if open_low else value < low)
    if not np.isfinite(value) or below or (high is not None and value > high):
        left = "-inf" if low is None else f"{low:g}"
        right = "inf" if high is None else f"{high:g}"
        bracket = "(" if open_low or low is None else "["
        close = ")" if high is None else "]"
        raise InvalidInput(f"`{name}={value:g}` is not in {bracket}{left}, {right}{close}. {hint}".rstrip())
    return value


def check_integer(value, name, *, low=None, high=None, hint=""):
    """Return `value` as int if it is a whole number within the limits."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise InvalidInput(f"`{name}={value!r}` is not a whole number. {hint}".rstrip())
    if (low is not None and value < low) or (high is not None and value > high):
        raise InvalidInput(f"`{name}={value}` is not in [{low}, {'inf' if high is None else high}]. {hint}".rstrip())
    return int(value)


def check_reg(reg, name="reg"):
    """Return the regularisation strength lambda as a positive float."""
    hint = "It is the weight lambda of (lambda/2)|w|^2 and must be positive; C = 1/reg in scikit-learn's terms."
    return check_number(reg, name, low=0.0, open_low=True, hint=hint)


def check_fraction(fraction, name="fraction"):
    """Return the poisoned share of the training samples, in [0, 1]."""
    hint = "It is the share of the training samples to poison; write 0.2 for 20 %."
    return check_number(fraction, name, low=0.0, high=1.0, hint=hint)


def check_beta(beta, name="beta"):
    """Return the backdoor weights as a sorted 1-D float array of distinct values in [0, 1]."""
    values = np.atleast_1d(np.asarray(beta, dtype=float)) if _is_numeric(beta) else None
    hint = "It is the weight of the backdoor samples: 0 leaves them out, 1 counts them like clean ones."
    if values is None or values.ndim != 1:
        raise InvalidInput(f"`{name}={beta!r}` is not a number or a 1-D sequence of numbers. {hint}")
    if values.size == 0:
        raise InvalidInput(f"`{name}` is empty. Give at least one value in [0, 1], for example np.linspace(0, 1, 21).")
    wrong = values[~((values >= 0) & (values <= 1))]
    if wrong.size:
        raise InvalidInput(f"`{name}` holds {wrong[0]:g}, which is not in [0, 1]. {hint}")
    if np.any(np.diff(values) <= 0):
        raise InvalidInput(f"`{name}` is not strictly increasing. Pass np.unique({name}).")
    return values


def _is_numeric(value) -> bool:
    try:
        return np.asarray(value).dtype.kind in "fiu"
    except (TypeError, ValueError):
        return False


def check_seed(seed, name="seed"):
    """Return the root seed as a non-negative int."""
    return check_integer(seed, name, low=0, hint="Every random choice derives from it; pass a non-negative integer.")


def check_flag(value, name):
    """Return `value` as bool if it is True or False; a text would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidInput(f"`{name}={value!r}` is not True or False.")
    return bool(value)


def check_jobs(n_jobs, name="n_jobs"):
    """Return the number of workers, with joblib's meaning of negative numbers."""
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, numbers.Integral) or n_jobs == 0:
        raise InvalidInput(f"`{name}={n_jobs!r}` is not a number of workers. Give 1, 2, ..., or -1 for all cores.")
    return int(n_jobs)


def check_choice(value, name, choices: Iterable[str]):
    """Return `value` if it is one of the named choices."""
    choices = tuple(choices)
    if value not in choices:
        raise InvalidInput(f"`{name}={value!r}` is not one of {', '.join(map(repr, choices))}.")
    return value


def check_samples(X, name, *, n_features=None, allow_empty=False, allow_sparse=True):
    """Return samples as a C-ordered float64 array of shape (n, d), or CSR, all finite."""
    if sp.issparse(X):
        if not allow_sparse:
            raise InvalidInput(f"`{name}` is sparse, which only linear learners take. Pass `{name}.toarray()`.")
        X = sp.csr_matrix(X, dtype=np.float64)
        values = X.data
    else:
        X = _as_float(X, name)
        values = X
    if X.ndim != 2:
        raise InvalidInput(
            f"`{name}` has shape {X.shape}; expected (n_samples, n_features), one row a sample. Reshape it: "
            f"`{name}.reshape(n_samples, -1)`."
        )
    if X.shape[0] == 0 and not allow_empty:
        raise InvalidInput(f"`{name}` holds no samples. Pass at least one row.")
    if X.shape[1] == 0:
        raise InvalidInput(f"`{name}` has no features (shape {X.shape}). Pass at least one column.")
    if n_features is not None and X.shape[1] != n_features:
        raise InvalidInput(
            f"`{name}` has {X.shape[1]} features where the first samples have {n_features}. All samples of a problem need "
            "the same features."
        )
    if not np.isfinite(values).all():
        bad = "NaN" if np.isnan(values).any() else "an infinite value"
        raise InvalidInput(f"`{name}` holds {bad}. Remove or impute such rows first.")
    return X


def as_array(X, name):
    """Return a dense array of any type; ragged lists and masked entries are refused."""
    if np.ma.is_masked(X):
        raise InvalidInput(f"`{name}` has masked entries. Leave those samples out, or fill them: `{name}.filled(...)`.")
    try:
        return np.asarray(X)
    except ValueError as error:
        raise InvalidInput(
            f"`{name}` is not a rectangular array ({error}). Give every sample the same shape."
        ) from None


def _as_float(X, name):
    X = as_array(X, name)
    if X.dtype.kind in "US":
        raise InvalidInput(
            f"`{name}` has dtype {X.dtype}, which is text; expected real numbers. Encode categories as numbers; of raw text pass "
            "features: of a Pipeline what its transformers give, with its last step as the model."
        )
    if X.dtype.kind not in "fiub":
        raise InvalidInput(
            f"`{name}` has dtype {X.dtype}; expected real numbers. Encode categories as numbers first, and convert columns "
            f"of numbers with `{name}.astype(float)`."
        )
    check_float64(X, name)
    return np.ascontiguousarray(X, dtype=np.float64)


def check_float64(X, name):
    """Refuse an array whose float64 copy would not fit into memory."""
    if X.dtype != np.float64 or not X.flags.c_contiguous:
        way_out = "Use fewer samples, smaller images, or features in their place."
        check_memory(8 * X.size, name, f"{X.dtype} of shape {X.shape} as float64", way_out)


def check_labels(y, name, n_samples, *, known=None):
    """Return labels as a 1-D array of length `n_samples`, all among `known` if that is given."""
    y = np.asarray(y)
    if y.ndim != 1:
        way_out = ""
        if y.ndim == 2:
            way_out = (
                f" Undo a one-hot coding with `{name}.argmax(axis=1)`." if y.shape[1] > 1 else f" Pass `{name}[:, 0]`."
            )
        raise InvalidInput(f"`{name}` has shape {y.shape}; expected one label a sample, shape ({n_samples},).{way_out}")
    if len(y) != n_samples:
        raise InvalidInput(f"`{name}` holds {len(y)} labels for {n_samples} samples. Give one label a sample.")
    if y.dtype.kind == "O":  # tables hold text that way
        kinds = {type(label) for label in y.tolist()}
        y = np.array(y.tolist()) if kinds in ({str}, {int}) else y
    if y.dtype.kind == "f":
        if not np.isfinite(y).all() or np.any(y != np.round(y)):
            raise InvalidInput(f"`{name}` holds labels that are not whole numbers. Labels are classes, not scores.")
        y = y.astype(np.int64)
    elif y.dtype.kind == "b":
        y = y.astype(np.int64)
    elif y.dtype.kind not in "iuUS":
        raise InvalidInput(
            f"`{name}` has dtype {y.dtype}; expected integers or strings. Number the classes 0, 1, ... first."
        )
    if known is not None and len(y):
        unseen = np.setdiff1d(y, known)
        if len(unseen):
            raise InvalidInput(
                f"`{name}` holds the label {unseen[0].item()!r}, which no clean training sample has "
                f"(known: {', '.join(map(str, known[:10]))}). Drop those samples or add the class to the clean set."
            )
    return y
