"""A fitted scikit-learn estimator from a .skops file: only named types, never a pickle."""

import json
import zipfile
from pathlib import Path

from learningcurves.errors import InvalidInput, NotSupported

_CLASSIFIERS = {
    "sklearn.linear_model._logistic.LogisticRegression",
    "sklearn.linear_model._ridge.RidgeClassifier",
    "sklearn.svm._classes.LinearSVC",
    "sklearn.svm._classes.SVC",
}
_TRANSFORMERS = {
    "sklearn.pipeline.Pipeline",
    "sklearn.decomposition._kernel_pca.KernelPCA",
    "sklearn.decomposition._pca.PCA",
    "sklearn.decomposition._truncated_svd.TruncatedSVD",
    "sklearn.feature_selection._univariate_selection.SelectKBest",
    "sklearn.feature_selection._variance_threshold.VarianceThreshold",
    "sklearn.impute._base.SimpleImputer",
    "sklearn.kernel_approximation.Nystroem",
    "sklearn.kernel_approximation.RBFSampler",
    "sklearn.preprocessing._data.Binarizer",
    "sklearn.preprocessing._data.MaxAbsScaler",
    "sklearn.preprocessing._data.MinMaxScaler",
    "sklearn.preprocessing._data.Normalizer",
    "sklearn.preprocessing._data.PowerTransformer",
    "sklearn.preprocessing._data.QuantileTransformer",
    "sklearn.preprocessing._data.RobustScaler",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._polynomial.PolynomialFeatures",
    "sklearn.random_projection.GaussianRandomProjection",
    "sklearn.random_projection.SparseRandomProjection",
}
_PARTS = {  # what the attributes of those are made of
    "sklearn.preprocessing._data.KernelCenterer",
    "sklearn.preprocessing._label.LabelBinarizer",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "numpy.bool",
    "numpy.dtype",
    "numpy.float32",
    "numpy.float64",
    "numpy.int32",
    "numpy.int64",
    "numpy.ndarray",
    "numpy.random.mtrand.RandomState",
    "scipy.sparse._csr.csr_matrix",
    "scipy.sparse._csr.csr_array",
    "scipy.sparse._csc.csc_matrix",
    "scipy.sparse._csc.csc_array",
    "builtins.dict",
    "builtins.list",
    "builtins.tuple",
    "builtins.set",
    "builtins.str",
    "builtins.int",
    "builtins.float",
    "builtins.bool",
    "builtins.slice",
    "builtins.type",
    "builtins.bytes",
}
TRUSTED = frozenset(_CLASSIFIERS | _TRANSFORMERS | _PARTS)


def load_estimator(path):
    """Return the fitted estimator of a .skops file.

    Parameters
    ----------
    path : path
        Written by ``skops.io.dump(estimator, path)``. The names of all types in the file are compared with a fixed
        list (the supported classifiers, Pipeline, common transformers, arrays and numbers) before anything is made
        of them. Pickles are never read.

    Raises
    ------
    InvalidInput
        If there is no such file, it is not a .skops file, it is damaged, or skops is not installed.
    NotSupported
        If it holds any other type; the message names it.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InvalidInput(f"`model={str(path)!r}` is no file. Write one with skops.io.dump(estimator, path).")
    if path.suffix.lower() in (".pkl", ".pickle", ".joblib"):
        raise InvalidInput(
            f"`model={str(path)!r}` is a pickle, and loading one runs whatever code it holds. "
            "Write it with skops.io.dump(estimator, 'model.skops')."
        )
    names = _type_names(path)
    strange = sorted(names - TRUSTED)
    if strange:
        raise NotSupported(
            f"`model={str(path)!r}` holds {', '.join(strange[:5])}, which is not read. Supported: "
            f"{', '.join(sorted(name.rpartition('.')[2] for name in _CLASSIFIERS))}, alone or in a Pipeline behind "
            f"{', '.join(sorted(name.rpartition('.')[2] for name in _TRANSFORMERS if 'Pipeline' not in name))}. "
            "From Python any fitted estimator of these can be passed as it is."
        )
    try:
        import skops.io
    except ImportError:
        raise InvalidInput(
            "`model` needs skops, which is not installed: pip install 'learningcurves[skops]'."
        ) from None
    try:
        return skops.io.load(path, trusted=sorted(names))
    except Exception as error:  # a damaged file fails in many ways, and none of them may pass for a model
        raise InvalidInput(
            f"`model={str(path)!r}` cannot be read by skops ({type(error).__name__}: {error}). Write it again, with the "
            "versions of skops and scikit-learn that are installed here."
        ) from None


def _type_names(path) -> set[str]:
    """Return the full names of all types that a .skops file asks for."""
    try:
        with zipfile.ZipFile(path) as archive:
            tree = json.loads(archive.read("schema.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, RecursionError) as error:
        raise InvalidInput(
            f"`model={str(path)!r}` is not a .skops file ({error}). Write one with skops.io.dump(estimator, path)."
        ) from None
    names, stack = set(), [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if "__class__" in node and "__module__" in node:
                names.add(f"{node['__module__']}.{node['__class__']}")
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
    return names
