"""Faces with what a network predicts about them, coloured by whether it is right."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from learningcurves.checks import check_integer
from learningcurves.errors import InvalidInput
from learningcurves.plotting.images import check_texts, show, to_pictures
from learningcurves.plotting.style import INK, PAGE, PALETTE, Display, local

# true positive, false negative, false positive, the attacker's target; the sign says it without colour
KINDS = {
    "true positive": ("#2e7d32", "+"),
    "false negative": (PALETTE["red"], "−"),
    "false positive": ("#b8860b", "×"),
    "target": ("#1f5fbf", "▸"),
}


class PredictionDisplay(Display):
    """One face a row, without and with the trigger, each with its predicted and its missed attributes.

    Green (+): predicted and true. Red (−): true and missed. Yellow (×): predicted and not true. Blue (▸): the
    attacker's target attribute, where it is predicted.

    Attributes
    ----------
    texts_ : list of list of Text
        Of each picture, row by row.
    ax_ : ndarray of Axes, shape (n, 2)
    figure_
    """

    def __init__(self, *, pictures, lists, column_labels, note=""):
        self.pictures = pictures  # (n, 2, H, W, 3)
        self.lists = lists  # n rows of 2 lists of (attribute, kind)
        self.column_labels = column_labels
        self.note = note

    @classmethod
    def from_predictions(
        cls,
        clean,
        triggered,
        predicted,
        predicted_triggered,
        truth,
        names: Sequence[str],
        *,
        target,
        note="",
        **plot_kw,
    ):
        """Draw images and predictions.

        Parameters
        ----------
        clean, triggered : ndarray (n, 3, H, W)
            Pixels in [0, 1].
        predicted, predicted_triggered, truth : bool arrays (n, K)
        names : sequence of str
            Names of the K attributes.
        target : int
            Column of the attacker's attribute.
        note : str
            Printed below, such as "drawn faces".
        **plot_kw
            Passed to `plot`.
        """
        truth = np.asarray(truth).astype(bool)
        guesses = [np.asarray(p).astype(bool) for p in (predicted, predicted_triggered)]
        if truth.ndim != 2 or any(g.shape != truth.shape for g in guesses):
            raise InvalidInput(
                f"`predicted` and `predicted_triggered` have shapes {guesses[0].shape} and {guesses[1].shape} where "
                f"`truth` has {truth.shape}; all are (n, K)."
            )
        check_texts(names, truth.shape[1], "names")
        check_integer(target, "target", low=0, high=truth.shape[1] - 1)
        pictures = np.stack([to_pictures(images) for images in (clean, triggered)], axis=1)
        if len(pictures) != len(truth) or not len(truth):
            raise InvalidInput(f"`clean` holds {len(pictures)} images for {len(truth)} rows of labels.")
        lists = [[_kinds(g[i], truth[i], names, target) for g in guesses] for i in range(len(truth))]
        return cls(pictures=pictures, lists=lists, column_labels=("clean", "triggered"), note=note).plot(**plot_kw)

    def plot(self, *, width: float = PAGE) -> "PredictionDisplay":
        """Draw into a new figure of `width` inches; return itself."""
        n = len(self.pictures)
        longest = max(len(one) for row in self.lists for one in row)
        side = width * 0.19
        row_height = max(side, 0.115 * (-(-longest // 2)) + 0.1)
        with local():
            self.figure_ = Figure(figsize=(width, n * row_height + 0.5), layout="constrained")
            self.figure_.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0.0, hspace=0.0)
            axes = self.figure_.subplots(n, 4, squeeze=False, width_ratios=[1, 1.6, 1, 1.6])
            self.ax_, self.texts_ = axes[:, ::2], []
            for i in range(n):
                for j in range(2):
                    show(axes[i, 2 * j], self.pictures[i, j])
                    self.texts_.append(_write(axes[i, 2 * j + 1], self.lists[i][j]))
                    if i == 0:
                        axes[0, 2 * j].set_title(self.column_labels[j])
            words = [f"{sign} {kind}" for kind, (_, sign) in KINDS.items()]
            for x, word, (colour, _) in zip((0.01, 0.165, 0.335, 0.5), words, KINDS.values(), strict=True):
                self.figure_.text(x, 0.004, word, color=colour, fontsize=7.5, weight="bold")
            self.figure_.text(0.995, 0.004, self.note, color=INK, fontsize=7, ha="right")
            foot = 0.25 / (n * row_height + 0.5)  # the legend's line
            self.figure_.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))
        return self


def _kinds(predicted, truth, names, target):
    found = []
    for k, name in enumerate(names):
        if k == target and predicted[k]:
            found.append((name, "target"))
        elif predicted[k] or truth[k]:
            found.append(
                (name, "false negative" if not predicted[k] else "true positive" if truth[k] else "false positive")
            )
    order = list(KINDS)
    return sorted(found, key=lambda pair: (pair[1] != "target", order.index(pair[1])))


def _write(axes, pairs):
    """Write attributes in two columns; return the texts."""
    axes.set_axis_off()
    rows = max(-(-len(pairs) // 2), 1)
    texts = []
    for i, (name, kind) in enumerate(pairs):
        colour, sign = KINDS[kind]
        column, row = divmod(i, rows)
        texts.append(
            axes.text(
                0.02 + 0.5 * column, 1 - (row + 0.5) / max(rows, 6), f"{sign} {name.replace('_', ' ')}", color=colour,
                fontsize=5.5, va="center", weight="bold" if kind == "target" else "normal", transform=axes.transAxes,
            )
        )  # fmt: skip
    return texts
