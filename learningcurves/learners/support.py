"""Find the training row of each support vector of a fitted SVC.

scikit-learn stores the row number in ``support_``, but counts only the rows of positive sample weight, so with
zero weights the numbers point at the wrong rows. What the kernel was evaluated on are the vectors themselves:
they are looked up here by content, with the number as a hint among equal rows.
"""

import numpy as np
import scipy.sparse as sp

from learningcurves.errors import InvalidInput
from learningcurves.streams import generator

TOLERANCE = 1e-9  # of the largest entry: `fit_transform` and `transform` of a pipeline differ in the last digits


def place_dual(values, vectors, hints, X, signs, bounds):
    r"""Return the signed dual weights :math:`v_i = y_i \alpha_i`, one for every training row.

    Parameters
    ----------
    values : ndarray of shape (n_support,)
        Signed dual weights of the support vectors.
    vectors : array or CSR of shape (n_support, d)
        The support vectors.
    hints : ndarray of shape (n_support,)
        Their row numbers as the estimator counts them; trusted only where the content agrees.
    X : array or CSR of shape (N, d)
        Training rows of the problem, clean rows first.
    signs, bounds : ndarrays of shape (N,)
        Labels -1 / +1 of the rows and the upper bounds of :math:`\alpha`.

    Returns
    -------
    ndarray of shape (N,)

    Raises
    ------
    InvalidInput
        When a support vector is not among the rows, or its weight exceeds the bound of the row.
    """
    rows, vectors = _dense_or_csr(X), _dense_or_csr(vectors)
    scale = max(_largest(rows), _largest(vectors), np.finfo(float).tiny)
    # One random projection finds the few rows that can be equal; they are then compared entry by entry.
    direction = generator(0, use="support rows").standard_normal(X.shape[1])
    keys, wanted = rows @ direction, vectors @ direction
    order = np.argsort(keys, kind="stable")
    reach = TOLERANCE * scale * np.abs(direction).sum()
    first = np.searchsorted(keys[order], wanted - reach, side="left")
    last = np.searchsorted(keys[order], wanted + reach, side="right")

    dual, taken = np.zeros(X.shape[0]), np.zeros(X.shape[0], dtype=bool)
    for k in np.argsort(-np.abs(values), kind="stable"):  # large weights first: they fit the fewest rows
        near = np.sort(order[first[k] : last[k]])
        distance = np.array([_largest(rows[i : i + 1] - vectors[k : k + 1]) for i in near])
        near, distance = near[distance <= TOLERANCE * scale], distance[distance <= TOLERANCE * scale]
        if not len(near):
            raise InvalidInput(_not_a_row(k))
        fits = (signs[near] == np.sign(values[k])) & (abs(values[k]) <= bounds[near] * (1 + 1e-9)) & ~taken[near]
        if not fits.any():
            raise InvalidInput(_no_free_row(k, values[k], near, signs, bounds, taken))
        near, distance = near[fits], distance[fits]
        best = np.lexsort((near, near != hints[k], distance))[0]
        dual[near[best]], taken[near[best]] = values[k], True
    return dual


def place_dual_by_number(values, numbers, signs, bounds):
    """Return the dual weights of an SVC on a precomputed kernel, where a row is known by its number only."""
    dual = np.zeros(len(signs))
    dual[numbers] = values
    wrong = np.flatnonzero((dual * signs < 0) | (np.abs(dual) > bounds * (1 + 1e-9)))
    if len(wrong):
        i = wrong[0]
        raise InvalidInput(
            f"`model` gives row {i} (label {signs[i]:+.0f}) the dual weight {dual[i]:.6g}, outside [0, {bounds[i]:.6g}] "
            "times its label. Its rows are not the problem's clean rows followed by its backdoor rows, or sample weights "
            "of zero shifted its `support_`: fit it again on the rows of positive weight only."
        )
    return dual


def _not_a_row(k):
    return (
        f"`model` was not trained on this problem: its support vector {k} is none of the training rows it may have seen. "
        "Fit it on `problem.X_clean` (at=0), or on the clean and backdoor samples together and pass `at=1`; features "
        "must be scaled as in the problem."
    )


def _no_free_row(k, value, near, signs, bounds, taken):
    i = near[0]
    if not np.any(signs[near] == np.sign(value)):
        cause = f"row {i} of the problem has the same features and the label {signs[i]:+.0f}: the labels differ"
    elif abs(value) > bounds[near].max() * (1 + 1e-9):
        cause = f"its row {i} allows at most {bounds[i]:.6g}: `C`, the class weights or sample weights differ"
    else:
        cause = f"its row {i} is already taken: the model was trained on more copies of it"
    return (
        f"`model` was not trained on this problem: its support vector {k} has the dual weight {value:.6g}, but {cause}. "
        "Fit it without `sample_weight` on `problem.X_clean` (at=0) or on the clean and backdoor samples (at=1)."
    )


def _dense_or_csr(X):
    return sp.csr_matrix(X) if sp.issparse(X) else np.asarray(X, dtype=np.float64)


def _largest(X):
    values = X.data if sp.issparse(X) else X
    return float(np.abs(values).max()) if values.size else 0.0
