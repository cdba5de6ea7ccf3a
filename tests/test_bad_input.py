"""Bad input is refused before any work, with an error that names the argument and the way out.

Every case was caused and its message read. A case is what to call, the kind of error, and words the message must hold:
the argument first, then the way out. The solvers are replaced by one that fails the test if it is reached.
"""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

import learningcurves as lc
from learningcurves import memory
from learningcurves.data.arrays import load_dataset, load_npz
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.poisoning.triggers import make_trigger
from learningcurves.storage import check_writable

RNG = np.random.default_rng(0)
X, Y = RNG.random((20, 4)), np.arange(20) % 2
DATA = lc.load_digits_pair(7, 1)
PROBLEM = lc.poison(DATA, lc.RandomPatch(size=2), fraction=0.1)
LINE = lc.learning_curve(lc.Logistic(), PROBLEM, beta=[0.0, 1.0])
FITTED = LogisticRegression().fit(PROBLEM.X_clean, PROBLEM.y_clean)


def problem(**changed):
    """Return a small sound problem, but for what is changed."""
    parts = {
        "X_clean": X,
        "y_clean": Y,
        "X_backdoor": X[:3],
        "y_backdoor": 1 - Y[:3],
        "X_test": X,
        "y_test": Y,
        "X_triggered": X[:5],
        "y_triggered": 1 - Y[:5],
    }
    return lc.BackdoorProblem(**{**parts, **changed})


def with_value(value, row=1):
    bad = X.copy()
    bad[row, 2] = value
    return bad


def images(n=6, side=5, dtype=np.uint8):
    return np.zeros((n, side, side), dtype)


def dataset(**changed):
    parts = {"X_train": X, "y_train": Y, "X_test": X, "y_test": Y}
    return lc.Dataset(**{**parts, **changed})


def three_classes():
    return lc.poison(lc.load_digits_classes((0, 1, 2), n_train=60), lc.RandomPatch(size=2), fraction=0.2)


def sparse_problem():
    S = sp.csr_matrix(X)
    return problem(X_clean=S, X_backdoor=S[:3], X_test=S, X_triggered=S[:5])


def curve(model=None, at=PROBLEM, **options):
    return lc.learning_curve(lc.Logistic() if model is None else model, at, **options)


def savez(folder, **arrays):
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


def _written(path, content):
    path.write_bytes(content)
    return path


ARRAYS = {"X_train": X, "y_train": Y, "X_test": X, "y_test": Y}

# name: (call, taking an empty folder, error, words of the message)
CASES = {
    # the problem's arrays
    "NaN in the clean samples": (
        lambda _: problem(X_clean=with_value(np.nan)),
        InvalidInput,
        ["`X_clean`", "NaN", "impute"],
    ),
    "NaN in the backdoor samples": (
        lambda _: problem(X_backdoor=with_value(np.nan)[:3]),
        InvalidInput,
        ["`X_backdoor`", "NaN", "impute"],
    ),
    "infinity in the test samples": (
        lambda _: problem(X_test=with_value(np.inf)),
        InvalidInput,
        ["`X_test`", "infinite", "Remove"],
    ),
    "minus infinity in the triggered samples": (
        lambda _: problem(X_triggered=with_value(-np.inf)[:5]),
        InvalidInput,
        ["`X_triggered`", "infinite", "Remove"],
    ),
    "samples of one dimension": (
        lambda _: problem(X_clean=X[:, 0]),
        InvalidInput,
        ["`X_clean`", "(20,)", "(n_samples, n_features)"],
    ),
    "masked entries": (
        lambda _: problem(X_clean=np.ma.masked_greater(X, 0.9)),
        InvalidInput,
        ["`X_clean`", "masked", "filled"],
    ),
    "numbers as objects": (
        lambda _: problem(X_clean=X.astype(object)),
        InvalidInput,
        ["`X_clean`", "object", "astype(float)"],
    ),
    "labels in a column": (
        lambda _: problem(y_clean=Y[:, None]),
        InvalidInput,
        ["`y_clean`", "(20, 1)", "`y_clean[:, 0]`"],
    ),
    "images with their channels last": (
        lambda _: dataset(X_train=np.zeros((20, 8, 8, 3))),
        InvalidInput,
        ["`X_train`", "(n, height, width, channels)", "transpose(0, 3, 1, 2)", "image_shape"],
    ),
    "an image shape that is a number": (
        lambda _: dataset(image_shape=4),
        InvalidInput,
        ["`image_shape=4`", "(channels, height, width)"],
    ),
    "samples of five dimensions": (
        lambda _: problem(X_clean=np.zeros((20, 1, 1, 2, 2))),
        InvalidInput,
        ["`X_clean`", "(n_samples, n_features)"],
    ),
    "ragged samples": (
        lambda _: problem(X_clean=[[1.0, 2.0], [3.0]] * 10),
        InvalidInput,
        ["`X_clean`", "rectangular", "same shape"],
    ),
    "text in place of samples": (
        lambda _: problem(X_clean=np.full((20, 4), "a")),
        InvalidInput,
        ["`X_clean`", "text", "real numbers", "Encode", "transformers", "last step"],
    ),
    "complex samples": (lambda _: problem(X_clean=X + 1j), InvalidInput, ["`X_clean`", "complex", "real numbers"]),
    "fewer labels than samples": (
        lambda _: problem(y_clean=Y[:-1]),
        InvalidInput,
        ["`y_clean`", "19 labels", "20 samples"],
    ),
    "labels in columns": (
        lambda _: problem(y_clean=np.eye(2)[Y]),
        InvalidInput,
        ["`y_clean`", "(20, 2)", "one label a sample", "argmax"],
    ),
    "scores in place of labels": (
        lambda _: problem(y_clean=Y + 0.5),
        InvalidInput,
        ["`y_clean`", "not whole numbers", "classes"],
    ),
    "objects in place of labels": (
        lambda _: problem(y_clean=np.array([{}] * 20)),
        InvalidInput,
        ["`y_clean`", "object", "integers or strings"],
    ),
    "one class only": (
        lambda _: problem(y_clean=np.zeros(20, int), y_backdoor=np.zeros(3, int)),
        InvalidInput,
        ["`y_clean`", "one class", "mode='add'"],
    ),
    "no clean samples": (
        lambda _: problem(X_clean=X[:0], y_clean=Y[:0]),
        InvalidInput,
        ["`X_clean`", "no samples", "at least one"],
    ),
    "no test samples": (lambda _: problem(X_test=X[:0], y_test=Y[:0]), InvalidInput, ["`X_test`", "at least one"]),
    "no triggered samples": (
        lambda _: problem(X_triggered=X[:0], y_triggered=Y[:0]),
        InvalidInput,
        ["`X_triggered`", "at least one"],
    ),
    "no features": (lambda _: problem(X_clean=X[:, :0]), InvalidInput, ["`X_clean`", "no features", "at least one"]),
    "triggered samples of other features": (
        lambda _: problem(X_triggered=X[:5, :3]),
        InvalidInput,
        ["`X_triggered`", "3 features", "4", "same features"],
    ),
    "a label that training does not have": (
        lambda _: problem(y_triggered=np.full(5, 7)),
        InvalidInput,
        ["`y_triggered`", "7", "Drop"],
    ),
    "a backdoor label that training does not have": (
        lambda _: problem(y_backdoor=np.array([0, 1, 2])),
        InvalidInput,
        ["`y_backdoor`", "2", "add the class"],
    ),
    "text labels beside numbers": (
        lambda _: problem(y_test=np.array(["a", "b"] * 10)),
        InvalidInput,
        ["`y_test`", "'a'", "Drop"],
    ),
    "true labels of another length": (
        lambda _: problem(y_source=Y[:4]),
        InvalidInput,
        ["`y_source`", "4 labels", "5 samples"],
    ),
    "sparse and dense mixed": (
        lambda _: problem(X_triggered=sp.csr_matrix(X[:5])),
        InvalidInput,
        ["`X_triggered`", "sparse and dense", "one kind"],
    ),
    "NaN in sparse samples": (
        lambda _: problem(X_clean=sp.csr_matrix(with_value(np.nan))),
        InvalidInput,
        ["`X_clean`", "NaN", "impute"],
    ),
    # images
    "integer images without a range": (
        lambda _: lc.Dataset(images(), np.arange(6) % 2, images(), np.arange(6) % 2),
        InvalidInput,
        ["`X_train`", "integer images", "value_range=(0, 255)"],
    ),
    "a range of no width": (
        lambda _: lc.Dataset(images(), np.arange(6) % 2, images(), np.arange(6) % 2, value_range=(5, 5)),
        InvalidInput,
        ["`value_range=(5, 5)`", "low < high"],
    ),
    "values outside the stated range": (
        lambda _: dataset(X_train=X * 300, value_range=(0, 255)),
        InvalidInput,
        ["`X_train`", "outside `value_range=(0, 255)`", "really have"],
    ),
    "an image shape that does not fit": (
        lambda _: dataset(image_shape=(1, 3, 3)),
        InvalidInput,
        ["`image_shape=(1, 3, 3)`", "4 features", "(channels, height, width)"],
    ),
    "images of two sizes": (
        lambda _: lc.Dataset(images(), np.arange(6) % 2, images(side=4), np.arange(6) % 2, value_range=(0, 255)),
        InvalidInput,
        ["`X_test`", "(1, 4, 4)", "(1, 5, 5)", "same size"],
    ),
    "more pixels than memory": (
        lambda _: dataset(
            X_train=np.broadcast_to(np.uint8(0), (10**9, 3072)), image_shape=(3, 32, 32), value_range=(0, 255)
        ),
        InvalidInput,
        ["`X_train`", "memory", "TB", "fewer samples"],
    ),
    # poisoning
    "fraction in percent": (
        lambda _: lc.poison(DATA, lc.RandomPatch(), fraction=20),
        InvalidInput,
        ["`fraction=20`", "[0, 1]", "0.2 for 20 %"],
    ),
    "negative fraction": (
        lambda _: lc.poison(DATA, lc.RandomPatch(), fraction=-0.1),
        InvalidInput,
        ["`fraction=-0.1`", "[0, 1]", "0.2 for 20 %"],
    ),
    "fraction NaN": (
        lambda _: lc.poison(DATA, lc.RandomPatch(), fraction=np.nan),
        InvalidInput,
        ["`fraction=nan`", "[0, 1]", "0.2 for 20 %"],
    ),
    "fraction as text": (
        lambda _: lc.poison(DATA, lc.RandomPatch(), fraction="10%"),
        InvalidInput,
        ["`fraction='10%'`", "not a number", "0.2 for 20 %"],
    ),
    "fraction of no sample": (
        lambda _: lc.poison(DATA, lc.RandomPatch(), fraction=1e-6),
        InvalidInput,
        ["`fraction=1e-06`", "no sample", "`count=1`"],
    ),
    "neither fraction nor count": (
        lambda _: lc.poison(DATA, lc.RandomPatch()),
        InvalidInput,
        ["`fraction`", "`count`", "give either"],
    ),
    "all of a class poisoned": (
        lambda _: lc.poison(DATA, lc.RandomPatch(), fraction=1.0),
        InvalidInput,
        ["`fraction=1`", "mode='add'"],
    ),
    "trigger larger than the image": (
        lambda _: lc.poison(DATA, lc.RandomPatch(size=9), fraction=0.1),
        InvalidInput,
        ["`size", "9", "8x8", "smaller"],
    ),
    "trigger of no size": (lambda _: lc.SolidPatch(size=0), InvalidInput, ["`size=0`", "side of the patch in pixels"]),
    "trigger outside the image": (
        lambda _: lc.poison(DATA, lc.SolidPatch(size=3, position=(7, 7)), fraction=0.1),
        InvalidInput,
        ["position", "(7, 7)", "8x8"],
    ),
    "strength in grey levels": (lambda _: lc.Invisible(strength=10), InvalidInput, ["`strength=10`", "10/255"]),
    "trigger on features": (
        lambda _: lc.poison(dataset(), lc.RandomPatch(), fraction=0.2),
        InvalidInput,
        ["`image_shape`", "BackdoorProblem"],
    ),
    "trigger on sparse data": (
        lambda _: lc.poison(dataset(X_train=sp.csr_matrix(X), X_test=sp.csr_matrix(X)), lc.RandomPatch(), fraction=0.2),
        InvalidInput,
        ["`data.X_train`", "sparse", "dense"],
    ),
    "a trigger by a wrong name": (
        lambda _: make_trigger({"kind": "patch"}),
        InvalidInput,
        ["`kind='patch'`", "'random_patch'"],
    ),
    "an option that the trigger lacks": (
        lambda _: make_trigger({"kind": "random_patch", "strength": 1}),
        InvalidInput,
        ["strength", "size"],
    ),
    "something else as the trigger": (
        lambda _: lc.poison(DATA, np.ones((3, 3)), fraction=0.1),
        NotSupported,
        ["`trigger`", "ndarray", "RandomPatch(size=3)"],
    ),
    "an unknown target label": (
        lambda _: lc.poison(DATA, lc.RandomPatch(), fraction=0.1, labels=5),
        InvalidInput,
        ["`labels`", "5", "known: 0, 1"],
    ),
    "a negative seed": (lambda _: lc.RandomPatch(seed=-1), InvalidInput, ["`seed=-1`", "non-negative"]),
    # learners and curves
    "reg 0": (lambda _: curve(lc.Logistic(reg=0)), InvalidInput, ["`reg=0`", "positive", "C = 1/reg"]),
    "reg negative": (lambda _: curve(lc.Ridge(reg=-1.0)), InvalidInput, ["`reg=-1`", "positive"]),
    "reg infinite": (lambda _: curve(reg=np.inf), InvalidInput, ["`reg=inf`", "positive"]),
    "reg True": (lambda _: curve(reg=True), InvalidInput, ["`reg=True`", "not a number", "positive"]),
    "reg among others": (lambda _: curve(reg=[1.0, 0.0]), InvalidInput, ["`reg=0`", "positive"]),
    "no reg at all": (lambda _: curve(reg=[]), InvalidInput, ["`reg`", "empty", "at least one"]),
    "reg as text": (lambda _: curve(lc.LinearSVM(reg="1")), InvalidInput, ["`reg='1'`", "not a number"]),
    "beta above 1": (lambda _: curve(beta=[0, 1.5]), InvalidInput, ["`beta`", "1.5", "[0, 1]"]),
    "beta below 0": (lambda _: curve(beta=[-0.1, 0.5]), InvalidInput, ["`beta`", "-0.1", "[0, 1]"]),
    "beta NaN": (lambda _: curve(beta=[0, np.nan]), InvalidInput, ["`beta`", "nan", "[0, 1]"]),
    "beta as text": (lambda _: curve(beta="0 to 1"), InvalidInput, ["`beta='0 to 1'`", "sequence of numbers"]),
    "beta not increasing": (lambda _: curve(beta=[0.5, 0.1]), InvalidInput, ["`beta`", "increasing", "np.unique"]),
    "beta empty": (lambda _: curve(beta=[]), InvalidInput, ["`beta`", "empty", "np.linspace(0, 1, 21)"]),
    "slope at a beta above 1": (
        lambda _: lc.backdoor_slope(lc.Logistic(), PROBLEM, at=2),
        InvalidInput,
        ["`at=2`", "[0, 1]", "weight of the backdoor samples"],
    ),
    "gamma negative": (lambda _: curve(lc.KernelSVM(gamma=-1.0)), InvalidInput, ["`gamma=-1`", "width"]),
    "an unknown kernel": (
        lambda _: curve(lc.KernelSVM(kernel="laplace")),
        InvalidInput,
        ["`kernel='laplace'`", "'rbf'"],
    ),
    "an unknown loss": (lambda _: curve(lc.LinearSVM(loss="log")), InvalidInput, ["`loss='log'`", "'hinge'"]),
    "a class weight for no class": (
        lambda _: curve(lc.Logistic(class_weight={7: 2.0})),
        InvalidInput,
        ["`class_weight`", "7", "0, 1"],
    ),
    "a negative class weight": (
        lambda _: curve(lc.Logistic(class_weight={0: -2.0})),
        InvalidInput,
        ["`class_weight", "negative", "positive"],
    ),
    "balanced class weights": (
        lambda _: curve(lc.Logistic(class_weight="balanced")),
        InvalidInput,
        ["`class_weight='balanced'`", "mapping"],
    ),
    "a binary learner on three classes": (
        lambda _: curve(lc.Logistic(), three_classes()),
        InvalidInput,
        ["3 classes", "`model`", "lc.Softmax"],
    ),
    "a kernel on sparse samples": (
        lambda _: curve(lc.KernelSVM(), sparse_problem()),
        InvalidInput,
        ["`problem`", "sparse", "dense"],
    ),
    "a precomputed kernel of the wrong size": (
        lambda _: curve(lc.KernelSVM(kernel="precomputed"), problem()),
        InvalidInput,
        ["`X_clean`", "precomputed", "23 training samples"],
    ),
    "a data set in place of a problem": (
        lambda _: curve(at=DATA),
        InvalidInput,
        ["`problem`", "Dataset", "lc.poison"],
    ),
    "a class in place of a learner": (
        lambda _: curve(lc.Logistic),
        NotSupported,
        ["`model`", "Logistic", "Logistic()"],
    ),
    "an estimator without an exact answer": (
        lambda _: curve(RandomForestClassifier(2).fit(PROBLEM.X_clean, PROBLEM.y_clean)),
        NotSupported,
        ["`model`", "RandomForestClassifier", "Supported:", "LogisticRegression"],
    ),
    "a perceptron": (
        lambda _: lc.backdoor_slope(Perceptron().fit(PROBLEM.X_clean, PROBLEM.y_clean), PROBLEM),
        NotSupported,
        ["`model`", "Perceptron", "Supported:"],
    ),
    "text in place of a learner": (
        lambda _: curve("logistic"),
        NotSupported,
        ["`model`", "str", "Supported:", "lc.Logistic"],
    ),
    "an unfitted estimator": (
        lambda _: lc.backdoor_slope(LogisticRegression(), PROBLEM),
        InvalidInput,
        ["`model`", "not fitted", "model.fit("],
    ),
    "an unfitted pipeline": (
        lambda _: curve(make_pipeline(StandardScaler(), LinearSVC())),
        InvalidInput,
        ["`model`", "not fitted"],
    ),
    "an estimator of other features": (
        lambda _: lc.backdoor_slope(FITTED, problem()),
        InvalidInput,
        ["`model`", "64 features", "4", "Pipeline"],
    ),
    "an estimator of other classes": (
        lambda _: curve(RidgeClassifier().fit(PROBLEM.X_clean, PROBLEM.y_clean + 3)),
        InvalidInput,
        ["`model`", "classes", "own labels"],
    ),
    "an l1 penalty": (
        lambda _: curve(LogisticRegression(l1_ratio=1.0, solver="saga", max_iter=5000, tol=0.1).fit(X, Y), problem()),
        NotSupported,
        ["LogisticRegression", "l1", "l2"],
    ),
    "an SVC of other samples": (
        lambda _: curve(SVC().fit(PROBLEM.X_clean + 1, PROBLEM.y_clean)),
        InvalidInput,
        ["`model`", "not trained on this problem", "problem.X_clean"],
    ),
    "an integer in place of a curve": (
        lambda _: lc.parameter_deviation(3),
        InvalidInput,
        ["`curve`", "int", "lc.learning_curve"],
    ),
    "influence of no backdoor samples": (
        lambda _: lc.pairwise_influence(lc.Logistic(), problem(X_backdoor=X[:0], y_backdoor=Y[:0])),
        InvalidInput,
        ["`problem`", "no backdoor samples", "`samples="],
    ),
    "influence of unknown samples": (
        lambda _: lc.pairwise_influence(lc.Logistic(), PROBLEM, samples="all"),
        InvalidInput,
        ["`samples='all'`", "'training'"],
    ),
    "an input gradient at other features": (
        lambda _: lc.input_gradient(FITTED, X),
        InvalidInput,
        ["`X`", "4 features", "64"],
    ),
    # files and names
    "data by a wrong name": (lambda _: load_dataset("digit:7-1"), InvalidInput, ["`data='digit:7-1'`", "'digits:7-1'"]),
    "the class of a trigger": (
        lambda _: lc.poison(DATA, lc.RandomPatch, 0.1),
        NotSupported,
        ["`trigger`", "the class RandomPatch", "RandomPatch()"],
    ),
    "a target of a clean-label attack that is no class": (
        lambda _: lc.poison_clean_label(DATA, lc.Checkerboard(), 7, count=2),
        InvalidInput,
        ["`target`", "7", "known: 0, 1"],
    ),
    "a source of a semantic attack that is no class": (
        lambda _: lc.poison_semantic(DATA, lambda x: x.mean((1, 2, 3)) > 0.3, 1, source=5),
        InvalidInput,
        ["`source`", "5", "known: 0, 1"],
    ),
    "a text for a flag": (lambda _: curve(refine="yes"), InvalidInput, ["`refine='yes'`", "True or False"]),
    "a text for the intercept": (
        lambda _: curve(lc.Logistic(fit_intercept="no")),
        InvalidInput,
        ["`fit_intercept='no'`", "True or False"],
    ),
    "an option that nothing has": (lambda _: curve(refin=True), InvalidInput, ["`refin`", "no option"]),
    "samples of another width for a gradient": (
        lambda _: lc.input_gradient(LINE, X[:, :3]),
        InvalidInput,
        ["`X`", "3 features", "64"],
    ),
    "scores of a data set": (
        lambda _: lc.attack_scores(FITTED, DATA),
        InvalidInput,
        ["`problem`", "Dataset", "lc.poison"],
    ),
    "scores of a function of the wrong shape": (
        lambda _: lc.attack_scores(lambda X: np.zeros(3), PROBLEM),
        InvalidInput,
        ["`model`", "(3,)", "one label a sample"],
    ),
    "networks in place of their scores": (
        lambda _: lc.defence_scores(FITTED, FITTED),
        InvalidInput,
        ["`before`", "attack_scores"],
    ),
    "a file in the way of a folder": (
        lambda folder: check_writable(_written(folder / "file", b"") / "out", "--out"),
        InvalidInput,
        ["`--out`", "file", "another folder"],
    ),
    "a digit that does not exist": (lambda _: load_dataset("digits:7-12"), InvalidInput, ["12", "digits", "9"]),
    "the same digit twice": (lambda _: lc.load_digits_pair(7, 7), InvalidInput, ["`classes=[7, 7]`", "different"]),
    "more samples than there are": (
        lambda _: lc.load_digits_pair(7, 1, n_train=10_000),
        InvalidInput,
        ["`n_train=10000`", "at most"],
    ),
    "a data folder without MNIST": (
        lambda folder: lc.load_mnist_pair(7, 1, root=folder),
        InvalidInput,
        ["`root=", "MNIST", "LEARNINGCURVES_DATA"],
    ),
    "a file that is not there": (
        lambda folder: load_npz(folder / "no.npz"),
        InvalidInput,
        ["`path=", "no.npz", "existing"],
    ),
    "an npz without an array": (
        lambda folder: load_npz(savez(folder, **{k: v for k, v in ARRAYS.items() if k != "y_test"})),
        InvalidInput,
        ["lacks `y_test`", "X_train, y_train, X_test, y_test"],
    ),
    "an npz with an unknown array": (
        lambda folder: load_npz(savez(folder, **ARRAYS, X_val=X)),
        InvalidInput,
        ["unknown `X_val`", "X_train"],
    ),
    "an npz with names in lower case": (
        lambda folder: load_npz(savez(folder, **{k.lower(): v for k, v in ARRAYS.items()})),
        InvalidInput,
        ["lacks `X_train`, `X_test`", "X_train, y_train"],
    ),
    "a table in place of an npz": (
        lambda folder: load_npz(_written(folder / "mine.npz", b"a,b\n1,2\n")),
        InvalidInput,
        ["mine.npz", "cannot be read", "numpy.savez"],
    ),
    "the name of an npz alone": (lambda _: load_dataset("mine.npz"), InvalidInput, ["`data=", "'npz:mine.npz'"]),
    "a CSV": (lambda _: load_dataset("csv:mine.csv"), InvalidInput, ["`data=", "pandas", "numpy.savez", "npz:PATH"]),
    "an npz of objects": (
        lambda folder: load_npz(savez(folder, **{**ARRAYS, "y_test": np.array([None] * 20)})),
        InvalidInput,
        ["`y_test`", "no objects"],
    ),
}


def work(*_, **__):
    pytest.fail("bad input reached a solver")


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_before_any_work(name, monkeypatch, tmp_path):
    monkeypatch.setattr("learningcurves.solvers.path.solve", work)
    for module in ("learners.learners", "curves.curve", "curves.entry", "curves.influence"):
        monkeypatch.setattr(f"learningcurves.{module}.solve", work)
    monkeypatch.setattr("learningcurves.curves.entry.share", work)
    call, kind, words = CASES[name]
    with pytest.raises(kind) as caught:
        call(tmp_path)
    message = str(caught.value)
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in: {message}"


def test_channels_last_may_be_meant():
    assert dataset(
        X_train=np.zeros((20, 8, 8, 3)), X_test=np.zeros((20, 8, 8, 3)), image_shape=(8, 8, 3)
    ).image_shape == (8, 8, 3)


def test_a_model_trained_on_the_backdoor_is_told_from_a_loose_one():
    X_all = np.vstack([PROBLEM.X_clean, PROBLEM.X_backdoor])
    y_all = np.concatenate([PROBLEM.y_clean, PROBLEM.y_backdoor])
    poisoned = LogisticRegression(tol=1e-10, max_iter=5000).fit(X_all, y_all)
    with pytest.warns(lc.ConvergenceWarning, match=r"with the backdoor samples.*at beta=1 the residual.*`at=1`"):
        lc.backdoor_slope(poisoned, PROBLEM)
    with pytest.warns(lc.ConvergenceWarning, match="smaller `tol`"):
        lc.backdoor_slope(LogisticRegression(tol=0.1).fit(PROBLEM.X_clean, PROBLEM.y_clean), PROBLEM)


def test_there_are_many_cases():
    assert len(CASES) >= 40


@pytest.mark.parametrize(
    "learner",
    [lc.Logistic(), lc.Ridge(), lc.LinearSVM(), lc.KernelSVM(), lc.Softmax()],
    ids=lambda one: type(one).__name__,
)
@pytest.mark.parametrize("ask", [lc.learning_curve, lc.backdoor_slope, lc.pairwise_influence])
def test_too_large_for_memory_says_the_estimate_and_the_way_out(monkeypatch, learner, ask):
    monkeypatch.setattr(memory, "available_memory", lambda: 10_000)
    monkeypatch.setattr("learningcurves.curves.entry.share", work)
    monkeypatch.setattr("learningcurves.curves.entry.solve", work)
    with pytest.raises(
        InvalidInput, match=r"`problem` needs about [\d.]+ .?B of memory .* where 10 kB are .* Use fewer"
    ):
        ask(learner, PROBLEM)


def test_what_fits_is_not_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 20_000_000)
    assert curve().status[0].ok


def test_where_the_system_does_not_tell_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    memory.check_memory(1e30, "problem", "everything", "")


def test_available_memory_is_a_sane_number():
    available = memory.available_memory()
    assert available is None or 2**20 < available < 2**60
