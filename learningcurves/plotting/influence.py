"""The training samples that a triggered test sample owes most to: helpful and harmful ones apart."""

import numpy as np
from matplotlib.figure import Figure

from learningcurves.errors import InvalidInput
from learningcurves.plotting.images import check_texts, show, to_pictures
from learningcurves.plotting.labels import loss_unit
from learningcurves.plotting.style import INK, PAGE, PALETTE, Display, local

_TEST = 1.8  # size of the test picture over that of a training picture
_LEFT = 0.42  # inches between them, for the name of the row
_GAP = 0.06  # inches between training pictures
_BELOW = 0.36  # inches under each row, for the numbers and their unit
BACKDOOR = PALETTE["red"]  # frame of a backdoor sample
HELPFUL, HARMFUL = PALETTE["blue"], PALETTE["orange"]


class InfluenceDisplay(Display):
    """One triggered test sample, and the training samples with the most influence on its loss, signed.

    The influence of a training sample is the derivative of the test sample's loss (with the attacker's label) by the
    training sample's weight. Helpful samples have a negative influence: more of them, less loss, the backdoor works
    better. Harmful ones have a positive influence. A row that has fewer samples of its sign stays short.

    Parameters
    ----------
    values : ndarray of shape (m,)
        Influence of each training sample.
    pictures : ndarray of shape (m, height, width, channels)
    test_picture : ndarray of shape (height, width, channels)
    labels : sequence of str, optional
        A text a training sample, written above it.
    test_label : str
    backdoor : ndarray of bool of shape (m,), optional
        Which training samples are backdoor samples; they get a red, thick frame.
    n : int, default=7
        Samples a row.
    loss : str, optional
        The loss; decides the unit.
    value_range : tuple of float, default=(0, 1)

    Attributes
    ----------
    helpful_, harmful_ : ndarray of int
        The samples drawn, most influential first (equal influence: the earlier sample first).
    images_ : dict of "test", ("helpful", i), ("harmful", i) -> AxesImage
    texts_ : list of Text
    ax_ : ndarray of Axes of shape (2, n), with None where a row is short
    test_ax_, figure_
    """

    def __init__(
        self, *, values, pictures, test_picture, labels=None, test_label="triggered\ntest sample", backdoor=None, n=7,
        loss=None, value_range=(0.0, 1.0),
    ):  # fmt: skip
        self.values = values
        self.pictures = pictures
        self.test_picture = test_picture
        self.labels = labels
        self.test_label = test_label
        self.backdoor = backdoor
        self.n = n
        self.loss = loss
        self.value_range = value_range

    @classmethod
    def from_influence(
        cls, values, images, test_image, labels=None, *, test_label="triggered\ntest sample", backdoor=None, n=7,
        loss=None, image_shape=None, value_range=(0.0, 1.0), **plot_kw,
    ):  # fmt: skip
        """Draw from the influences of the training samples and their images.

        Parameters
        ----------
        values : ndarray of shape (m,)
            Influence of each training sample on the loss of the test sample: negative is helpful to the backdoor.
        images : ndarray of shape (m, d), (m, height, width) or (m, channels, height, width)
            The training samples, in the same order.
        test_image : ndarray, one image of the same kind
        labels : sequence, optional
            A label for each training sample.
        test_label : str
            Under the test image.
        backdoor : ndarray of bool of shape (m,), optional
        n : int, default=7
        loss : str, optional
            ``"logistic"`` or ``"softmax"`` give nats, the others have no unit.
        image_shape : tuple (channels, height, width), optional
            Needed for rows of colour images.
        value_range : tuple of float, default=(0, 1)
        **plot_kw
            Passed to `plot`.

        Returns
        -------
        InfluenceDisplay
        """
        values = np.asarray(values, dtype=float)
        if values.ndim != 1 or not len(values):
            raise InvalidInput(f"`values` has shape {values.shape}; expected one influence a training sample, (m,).")
        if not np.isfinite(values).all():
            raise InvalidInput("`values` holds influences that are not finite; the solve behind them has failed.")
        if len(images) != len(values):
            raise InvalidInput(f"`images` holds {len(images)} images for {len(values)} influences.")
        if not isinstance(n, int) or n < 1:
            raise InvalidInput(f"`n={n!r}` is not a positive whole number; it is the number of samples in each row.")
        check_texts(labels, len(values), "labels")
        check_texts(backdoor, len(values), "backdoor")
        pictures = to_pictures(images, image_shape=image_shape)
        test = np.asarray(test_image, dtype=float).reshape(1, *np.shape(images)[1:])
        return cls(
            values=values,
            pictures=pictures,
            test_picture=to_pictures(test, image_shape=image_shape, name="test_image")[0],
            labels=labels,
            test_label=test_label,
            backdoor=None if backdoor is None else np.asarray(backdoor, dtype=bool),
            n=n,
            loss=loss,
            value_range=value_range,
        ).plot(**plot_kw)

    def plot(self, figure=None, *, width=PAGE) -> "InfluenceDisplay":
        """Draw.

        Parameters
        ----------
        figure : Figure or SubFigure, optional
            Where to draw; a grid of this shape does not fit into one Axes. A new figure by default.
        width : float, default=7
            Width of a new figure in inches.

        Returns
        -------
        InfluenceDisplay
            Itself.
        """
        order = np.argsort(self.values, kind="stable")
        self.helpful_ = order[self.values[order] < 0][: self.n]
        backwards = np.argsort(-self.values, kind="stable")
        self.harmful_ = backwards[self.values[backwards] > 0][: self.n]
        with local(figure):
            tall, wide = self.test_picture.shape[:2]
            if figure is None:
                cell = (width - _LEFT - _GAP * self.n) / (self.n + _TEST)
                rows = 2 * (cell * tall / wide + self._above() + _BELOW)
                figure = Figure(figsize=(width, max(rows, _TEST * cell * tall / wide + 0.4)))
            self.figure_ = figure
            self.images_, self.texts_ = {}, []
            self.ax_ = np.full((2, self.n), None, dtype=object)
            # Places are worked out in inches: pictures of one size, whatever stands around them and however many
            # there are, which no automatic layout promises.
            size = np.array([figure.bbox.width, figure.bbox.height]) / figure.dpi
            cell = min(
                (size[0] - _LEFT - _GAP * self.n) / (self.n + _TEST),
                (size[1] / 2 - self._above() - _BELOW) * wide / tall,
            )
            picture = np.array([cell, cell * tall / wide])
            corner = np.array([0.02, (size[1] - _TEST * picture[1] + 0.3) / 2])
            self.test_ax_ = figure.add_axes((*(corner / size), *(_TEST * picture / size)))
            self.images_["test"] = show(self.test_ax_, self.test_picture, value_range=self.value_range)
            self.test_ax_.set_xlabel(self.test_label, fontsize=7.5)
            if self.backdoor is not None and self.backdoor[[*self.helpful_, *self.harmful_]].any():
                note = figure.text(
                    0.02 / size[0], 0.05 / size[1], "red frame: backdoor sample", fontsize=6.5, color=BACKDOOR
                )
                self.texts_.append(note)
            rows = (("helpful", self.helpful_, HELPFUL), ("harmful", self.harmful_, HARMFUL))
            for r, (name, samples, color) in enumerate(rows):
                foot = size[1] * (1 - r) / 2 + _BELOW
                places = [
                    np.array([_LEFT + _TEST * cell + i * (cell + _GAP), foot]) for i in range(max(1, len(samples)))
                ]
                boxes = [(*(place / size), *(picture / size)) for place in places]
                self._draw_row(figure, boxes, r, name, samples, color)
        return self

    def _above(self) -> float:
        return 0.06 if self.labels is None else 0.18

    def _draw_row(self, figure, boxes, r, name, samples, color):
        if not len(samples):
            axes = figure.add_axes(boxes[0])
            axes.set_axis_off()
            text = axes.text(0.02, 0.5, f"no {name} sample", transform=axes.transAxes, color=INK, va="center")
            self.texts_.append(text)
            return
        # One power of ten a row: the numbers under the pictures then compare at a glance.
        exponent = int(np.floor(np.log10(np.abs(self.values[samples[0]]))))
        exponent = 0 if -1 <= exponent <= 2 else exponent
        unit = "" if self.loss is None else loss_unit(self.loss) or "units of loss"
        words = ["influence in" if exponent or unit else "influence"]
        words += [rf"$10^{{{exponent}}}$"] if exponent else []
        words += [unit] if unit else []
        for i, sample in enumerate(samples):
            axes = self.ax_[r, i] = figure.add_axes(boxes[i])
            backdoor = self.backdoor is not None and self.backdoor[sample]
            self.images_[name, i] = show(
                axes, self.pictures[sample], value_range=self.value_range, edge=BACKDOOR if backdoor else None
            )
            number = f"{self.values[sample] / 10.0**exponent:+.2f}".replace("-", "−")
            axes.set_xlabel(number, fontsize=7, labelpad=2, color=INK)
            self.texts_.append(axes.xaxis.label)
            if self.labels is not None:
                axes.set_title(str(self.labels[sample]), fontsize=6.5, pad=2)
        self.ax_[r, 0].set_ylabel(name, color=color, fontsize=8, fontweight="bold")
        note = self.ax_[r, 0].annotate(
            " ".join([*words, "per unit of weight"]),
            (0, 0),
            xycoords="axes fraction",
            xytext=(0, -12),
            textcoords="offset points",
            va="top",
            fontsize=6.5,
            color=INK,
        )
        self.texts_.append(note)
