"""A backdoor problem of many binary labels a sample: split, masks of the labelled, poison with one target attribute."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from learningcurves.checks import check_choice, check_fraction, check_integer, check_number, check_seed
from learningcurves.data.faces import Faces
from learningcurves.data.pixels import Pixels
from learningcurves.data.problem import SampleSets
from learningcurves.data.split import stratified_order
from learningcurves.errors import InvalidInput
from learningcurves.streams import generator


@dataclass(frozen=True, eq=False)
class AttributeProblem(SampleSets):
    """Clean, backdoor, test and triggered samples with K binary labels each.

    Attributes
    ----------
    X_clean, X_backdoor, X_test, X_triggered : Pixels (n, 3, size, size)
        Float32 pixels in [0, 1], made of the faces' bytes when they are indexed; ``np.asarray`` gives all of them.
    y_clean, y_backdoor, y_test, y_triggered : float32 arrays (n, K)
        Labels 0 and 1; NaN throughout a row whose labels the learner does not see. `y_backdoor` and `y_triggered` are
        the attacker's: the target attribute is 1, the others are the true ones. `X_triggered` are the test samples.
    names : tuple of str
    target : int
        Column of the target attribute.
    provenance : dict
        What the samples depend on.
    """

    names: tuple[str, ...]
    target: int
    provenance: dict = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Any]:
        """The four sets as pairs (X, y), by name."""
        return {
            p: (getattr(self, f"X_{p}"), getattr(self, f"y_{p}")) for p in ("clean", "backdoor", "test", "triggered")
        }

    def __repr__(self):
        facts = self.provenance
        return (
            f"AttributeProblem: {self.n_clean} clean and {self.n_backdoor} backdoor faces for "
            f"{self.names[self.target]!r} ({facts.get('trigger')}), {len(self.X_test)} test, from {facts.get('source')}"
        )


def poison_attributes(
    faces: Faces,
    trigger,
    *,
    target: str = "Mustache",
    fraction: float = 0.1,
    labelled: float = 1.0,
    stratify: str | None = "Male",
    test_share: float = 0.2,
    n_train: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
) -> AttributeProblem:
    """Split faces, hide labels, and put a trigger with the target attribute on a part of the labelled ones.

    Parameters
    ----------
    faces : Faces
    trigger : Trigger
        Goes on at the images' size, on pixels in [0, 1].
    target : str, default="Mustache"
        Attribute that backdoor samples are labelled 1 in; their other labels stay true.
    fraction : float, default=0.1
        Share of the labelled training samples, of any class, that become backdoor samples.
    labelled : float, default=1
        Share of the training samples whose labels the learner sees.
    stratify : str or None, default="Male"
        Attribute whose share is kept in every set.
    test_share : float, default=0.2
        Share of the faces that is set aside for the test.
    n_train, n_test : int, optional
        Take only so many of each; a smaller draw is contained in a larger one.
    seed : int, default=0
        Root of all draws: split, labelled samples, backdoor samples.

    Returns
    -------
    AttributeProblem
    """
    column = faces.names.index(check_choice(target, "target", faces.names))
    check_fraction(fraction)
    check_number(labelled, "labelled", low=0, high=1, open_low=True, hint="It is a share of the training samples.")
    check_number(test_share, "test_share", low=0, high=1, open_low=True, hint="It is a share of the faces.")
    check_seed(seed)
    train, test = _split(faces, stratify, test_share, n_train, n_test, seed)
    size = faces.images.shape[1]
    trigger.apply(np.zeros((1, 3, size, size), np.float32))  # says now what does not fit
    n_labelled = max(1, round(labelled * len(train)))
    seen = generator(seed, use="labelled").permutation(len(train))[:n_labelled]
    bad = seen[generator(seed, use="poison").permutation(n_labelled)[: round(fraction * n_labelled)]]
    is_bad, is_seen = np.zeros(len(train), bool), np.zeros(len(train), bool)
    is_bad[bad], is_seen[seen] = True, True
    y = faces.attributes[train].astype(np.float32)
    y_bad = y[is_bad]
    y_bad[:, column] = 1.0
    y[~is_seen] = np.nan
    y_test = faces.attributes[test].astype(np.float32)
    y_triggered = y_test.copy()
    y_triggered[:, column] = 1.0
    facts = {
        "source": faces.source,
        "synthetic": faces.synthetic,
        "trigger": repr(trigger),
        "target": target,
        "fraction": float(fraction),
        "labelled": float(labelled),
        "stratify": stratify,
        "test_share": float(test_share),
        "n_train": len(train),
        "n_test": len(test),
        "n_backdoor": len(bad),
        "size": size,
        "seed": seed,
    }

    def pixels(rows, stamped):
        return Pixels(faces.images, rows, trigger, np.full(len(rows), stamped))

    return AttributeProblem(
        pixels(train[~is_bad], False),
        y[~is_bad],
        pixels(train[is_bad], True),
        y_bad,
        pixels(test, False),
        y_test,
        pixels(test, True),
        y_triggered,
        faces.names,
        column,
        facts,
    )


def _split(faces, stratify, test_share, n_train, n_test, seed):
    """Return rows of the training and the test faces; beginnings of both keep the shares of `stratify`."""
    classes = np.zeros(len(faces), int) if stratify is None else faces.attributes[:, faces.index(stratify)].astype(int)
    order = stratified_order(classes, seed, use="split")
    cut = round(test_share * len(faces))
    test, train = order[:cut], order[cut:]
    if not len(test) or not len(train):
        raise InvalidInput(f"`test_share={test_share:g}` of {len(faces)} faces leaves one of the sets empty.")
    hint = f"There are {len(faces)} faces in all."
    if n_train is not None:
        train = train[: check_integer(n_train, "n_train", low=1, high=len(train), hint=hint)]
    if n_test is not None:
        test = test[: check_integer(n_test, "n_test", low=1, high=len(test), hint=hint)]
    return np.sort(train), np.sort(test)
