"""Networks, their samples and their options that do not fit are refused with an error that names them, before any work."""

import numpy as np
import pytest

import learningcurves as lc
from learningcurves.errors import InvalidInput, NotSupported

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from learningcurves.networks import extract_features, save_weights, train  # noqa: E402
from learningcurves.networks.runtime import naming_shapes  # noqa: E402

DATA = lc.load_digits_classes((0, 1, 2), n_train=60)
PROBLEM = lc.poison(DATA, lc.SolidPatch(size=2), fraction=0.2, labels=0)
ROWS = (DATA.X_train, DATA.y_train)


def cnn():
    return lc.SmallCNN((1, 8, 8), 3, 2)


def rows_of(n):
    return nn.Sequential(nn.Flatten(), nn.Linear(n, 3))


def broken():
    module = rows_of(64)
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Linear(4, 3))
    body[1].weight.data.fill_(float("nan"))
    return module, body


def slope(module, problem=PROBLEM, **options):
    return lc.backdoor_slope(module, problem, reg=1.0, **options)


def parts(**changed):
    found = {p: (getattr(PROBLEM, f"X_{p}"), getattr(PROBLEM, f"y_{p}")) for p in ("clean", "backdoor", "triggered")}
    return {**found, **changed}


def fit(module=None, **options):
    return train(cnn() if module is None else module, PROBLEM, **{"epochs": 1, "progress": False, **options})


def curve(**options):
    return lc.train_curve(cnn, PROBLEM, **{"beta": [0, 1], "epochs": 1, "progress": False, **options})


# name: (call, taking an empty folder, error, words of the message)
CASES = {
    "a network for samples of another size": (
        lambda _: slope(rows_of(60)),
        InvalidInput,
        ["Sequential", "(8, 1, 8, 8)"],
    ),
    "a network for colours": (
        lambda _: slope(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 3))),
        InvalidInput,
        ["Sequential", "(8, 1, 8, 8)", "images of shape (n, C, H, W)"],
    ),
    "all parameters of such a network": (
        lambda _: slope(rows_of(60), parameters="all"),
        InvalidInput,
        ["Sequential", "1, 8, 8)"],
    ),
    "training such a network": (lambda _: fit(rows_of(60)), InvalidInput, ["Sequential", "1, 8, 8)"]),
    "perturbing with such a network": (
        lambda _: lc.poison_clean_label(DATA, lc.Checkerboard(), 0, count=2, perturb=lc.PGD(eps=0.1).on(rows_of(60))),
        InvalidInput,
        ["Sequential", "(2, 1, 8, 8)"],
    ),
    "rows for a defence of a CNN": (
        lambda _: lc.defend_anp(cnn(), ROWS, progress=False),
        InvalidInput,
        ["SmallCNN", "64)", "`image_shape`"],
    ),
    "rows for SODA on a CNN": (lambda _: lc.detect_soda(cnn(), ROWS), InvalidInput, ["SmallCNN", "`image_shape`"]),
    "weights that are NaN": (lambda _: extract_features(broken()[1], DATA), InvalidInput, ["NaN", "weights"]),
    "a lazy network": (
        lambda _: slope(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), parameters="all"),
        InvalidInput,
        ["`model`", "lazy", "one batch"],
    ),
    "a network without weights": (lambda _: slope(cnn().to("meta")), InvalidInput, ["`model`", "meta", "to_empty"]),
    "the class of a network": (
        lambda _: fit(lc.SmallCNN),
        NotSupported,
        ["`module`", "the class SmallCNN", "SmallCNN(...)"],
    ),
    "a learner for a defence": (
        lambda _: lc.defend_finetune(lc.Logistic(), DATA),
        NotSupported,
        ["`network`", "Logistic", "torch.nn.Module"],
    ),
    "a learner for PGD": (lambda _: lc.PGD(eps=0.1).on(lc.Logistic()), NotSupported, ["`module`", "Logistic"]),
    "NaN in a part": (
        lambda _: slope(
            cnn(),
            parts(
                backdoor=(PROBLEM.X_backdoor.reshape(-1, 1, 8, 8) * np.nan, PROBLEM.y_backdoor),
                clean=(PROBLEM.X_clean.reshape(-1, 1, 8, 8), PROBLEM.y_clean),
            ),
        ),
        InvalidInput,
        ["X of the backdoor part", "NaN"],
    ),
    "too few labels in a part": (
        lambda _: slope(rows_of(64), parts(triggered=(PROBLEM.X_triggered, PROBLEM.y_triggered[:-1]))),
        InvalidInput,
        ["X of the triggered part", "one label a sample"],
    ),
    "class labels for a loss of attributes": (
        lambda _: slope(cnn(), loss="bce"),
        InvalidInput,
        ["clean part", "1 columns", "3 outputs", 'loss="cross_entropy"'],
    ),
    "a name for an augmentation": (lambda _: fit(augment="flip"), NotSupported, ["`augment='flip'`", "function"]),
    "a number for a measure": (lambda _: fit(measure=3), NotSupported, ["`measure=3`", "function"]),
    "a checkpoint that cannot be written": (
        lambda folder: fit(checkpoint=in_the_way(folder) / "state"),
        InvalidInput,
        ["`checkpoint`", "cannot be written"],
    ),
    "a folder of checkpoints that cannot be written": (
        lambda folder: curve(checkpoint=in_the_way(folder)),
        InvalidInput,
        ["`checkpoint`", "cannot be written"],
    ),
    "no worker": (lambda _: curve(n_jobs=0), InvalidInput, ["`n_jobs=0`", "-1 for all cores"]),
    "no torch data sets": (lambda _: lc.dataset_from_torch(None, None), NotSupported, ["`train`", "torch Dataset"]),
    "a recipe's trigger by name": (
        lambda _: lc.AttributeRecipe(trigger="patch"),
        InvalidInput,
        ["`trigger='patch'`", "kind"],
    ),
}


def in_the_way(folder):
    (folder / "file").write_bytes(b"")
    return folder / "file"


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_refused(name, tmp_path):
    call, kind, words = CASES[name]
    with pytest.raises(kind) as caught:
        call(tmp_path)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"


def test_weights_that_cannot_be_written_name_their_path(tmp_path):
    path = in_the_way(tmp_path) / "weights.safetensors"
    with pytest.raises(OSError, match="weights.safetensors'"):
        save_weights(cnn(), path)


def test_too_few_samples_for_soda_give_no_warning():
    report = lc.detect_soda(cnn(), (DATA.X_train[:3].reshape(-1, 1, 8, 8), DATA.y_train[:3]))
    assert report.verdict == "cannot tell"


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


class Opaque(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(64, 3)

    def forward(self, x):
        return Twice.apply(self.out(x.flatten(1)))


def test_an_operation_without_derivatives_is_named():
    with pytest.raises(NotSupported, match="Opaque has an operation that torch cannot differentiate twice"):
        slope(Opaque(), parameters="all", damping=50.0)
    assert slope(Opaque(), head="out").status.ok  # which needs none


def test_memory_that_runs_out_keeps_its_own_error():
    with pytest.raises(torch.OutOfMemoryError), naming_shapes(cnn(), torch.zeros(2, 1)):
        raise torch.OutOfMemoryError("no room")
