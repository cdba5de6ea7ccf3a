"""What every trigger can do: be checked against an image, stamp samples, and draw itself."""

import zlib
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from learningcurves.checks import check_number
from learningcurves.errors import InvalidInput
from learningcurves.poisoning.stamping import as_images, check_image_shape, check_value_range, stamp


class Trigger(ABC):
    """A frozen description of a trigger; `apply` puts it on samples, all by one rule (see `stamping.stamp`).

    Patterns and strengths are stated on the scale 0 to 1, from the low to the high end of the data's value range,
    so that one trigger means the same on pixels in [0, 1] and in [0, 255].
    """

    kind: ClassVar[str]
    per_class: bool = False  #: whether the pattern depends on the true class of a sample

    @property
    def name(self) -> str:
        """A short name for tables and file names."""
        return self.kind

    @abstractmethod
    def _draw(self, images, class_index, image_shape, low, high) -> np.ndarray:
        """Return new images with the trigger of one class."""

    @abstractmethod
    def check(self, image_shape, n_classes=2):
        """Raise InvalidInput if the trigger cannot go on images of this shape; return nothing."""

    def apply(self, X, y_source=None, *, image_shape=None, value_range=(0.0, 1.0), classes=None):
        """Return a copy of the samples with the trigger stamped.

        Parameters
        ----------
        X : ndarray of shape (n, d), (n, H, W) or (n, C, H, W)
            Samples, not changed. Rows (n, d) are images flattened in (C, H, W) order and need `image_shape`.
        y_source : array of shape (n,), optional
            True classes; needed when the trigger differs by class.
        image_shape : tuple (C, H, W), optional
            Shape of the images behind the rows.
        value_range : tuple (low, high), default=(0, 1)
            Range of the values; samples outside it are refused, the result stays inside it.
        classes : array, optional
            All labels of the problem; needed when the trigger differs by class (the c-th sorted label gets
            pattern c, whichever labels `y_source` happens to hold).

        Returns
        -------
        ndarray
            Same shape as `X`; float64, or float32 if `X` is.

        Raises
        ------
        InvalidInput
            If `X` is sparse or out of range, the trigger does not fit the images, or labels are missing.
        """
        low, high = check_value_range(value_range)
        images, shape = as_images(X, image_shape, (low, high))
        index = self._class_index(y_source, len(images), classes)
        self.check(shape, 1 if classes is None else len(np.unique(classes)))
        out = np.empty_like(images)
        for c in np.unique(index):
            rows = index == c
            out[rows] = self._draw(images[rows], int(c), shape, low, high)
        return out.reshape(np.shape(X))

    def _class_index(self, y_source, n, classes):
        if not self.per_class:
            return np.zeros(n, dtype=int)
        if y_source is None or classes is None:
            raise InvalidInput(
                f"`{'y_source' if y_source is None else 'classes'}` is missing: {self.name} has one pattern per true class. "
                "Pass the samples' labels as `y_source` and all labels as `classes`, or use `per_class=False`."
            )
        y, known = np.asarray(y_source), np.unique(classes)
        if y.shape != (n,):
            raise InvalidInput(f"`y_source` has shape {y.shape} for {n} samples.")
        unseen = np.setdiff1d(y, known)
        if len(unseen):
            raise InvalidInput(
                f"`y_source` holds the label {unseen[0].item()!r}, not among `classes` {known.tolist()[:10]}."
            )
        return np.searchsorted(known, y)

    def show(self, image_shape=None, *, images=None, n_classes=None, axes=None):
        """Draw the pattern (one panel a class if it differs by class) and return the axes.

        Parameters
        ----------
        image_shape : tuple (C, H, W), optional
            Shape of the images that the trigger is meant for; that of `images`, else `shown_shape`.
        images : array of shape (n, H, W) or (n, C, H, W) with values in [0, 1], optional
            The first is drawn before and after stamping beside the pattern of each class.
        n_classes : int, optional
            Number of panels; 2 for a trigger that differs by class, else 1.
        axes : sequence of matplotlib Axes, optional
            Where to draw; a new figure is made otherwise.

        Returns
        -------
        ndarray of matplotlib Axes
        """
        import matplotlib.pyplot as plt

        if images is not None:
            images, image_shape = as_images(images, image_shape, (0.0, 1.0))
        shape = check_image_shape(self.shown_shape if image_shape is None else image_shape)
        n = n_classes or (2 if self.per_class else 1)
        self.check(shape, n)
        before = [] if images is None else [images[0]]
        after = [] if images is None else [self._draw(images[:1], c, shape, 0.0, 1.0)[0] for c in range(n)]
        n_panels = n + len(before) + len(after)
        if axes is None:
            _, axes = plt.subplots(1, n_panels, figsize=(2.4 * n_panels, 2.6), squeeze=False, layout="constrained")
        axes = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
        pictures = [self._picture(shape, c) for c in range(n)] + [_rgba(np.asarray(x), 1.0) for x in before + after]
        words = [f"true class {c}" if self.per_class else self.name for c in range(n)] + ["source"] * len(before)
        words += [f"stamped, class {c}" if self.per_class else "stamped" for c in range(len(after))]
        for ax, picture, word in zip(axes, pictures, words, strict=False):
            ax.imshow(picture, interpolation="nearest", vmin=0, vmax=1)
            # pixels the trigger leaves alone are transparent: a colour behind them tells them from black ones
            ax.set_facecolor("#d5e3ee")
            ax.set(xticks=[], yticks=[], xlabel=word)
        return axes

    @property
    def shown_shape(self) -> tuple[int, int, int]:
        """Image shape that `show` assumes when it is given none."""
        return (3, 32, 32)

    @abstractmethod
    def _picture(self, image_shape, class_index) -> np.ndarray:
        """Return an RGBA picture (H, W, 4) of the pattern."""


def _rgba(values, opacity):
    """Return (C, H, W) values in [0, 1] as an (H, W, 4) picture; more than 3 channels are averaged to grey."""
    colour = values if values.shape[0] == 3 else np.repeat(values.mean(axis=0, keepdims=True), 3, axis=0)
    return np.concatenate([colour, np.broadcast_to(opacity, (1, *values.shape[1:]))]).transpose(1, 2, 0)


class StampedTrigger(Trigger):
    """A trigger that replaces or blends pixels: its mask, pattern and alpha are the same for every image of a class."""

    alpha: float = 1.0

    @abstractmethod
    def layer(self, image_shape, class_index=0) -> tuple[np.ndarray, np.ndarray]:
        """Return (mask, pattern), both of shape (C, H, W), pattern on the scale 0 to 1."""

    def check(self, image_shape, n_classes=2):
        """Raise InvalidInput if the trigger does not fit the images."""
        self.layer(check_image_shape(image_shape), 0)

    def _draw(self, images, class_index, image_shape, low, high):
        mask, pattern = self.layer(image_shape, class_index)
        kind = images.dtype  # keeps float32 images float32
        return stamp(images, mask.astype(kind), (low + (high - low) * pattern).astype(kind), kind.type(self.alpha))

    def _picture(self, image_shape, class_index):
        mask, pattern = self.layer(image_shape, class_index)
        return _rgba(pattern, mask.max(axis=0, keepdims=True))


class AddedTrigger(Trigger):
    r"""A trigger that is added to the pixels: the one rule with an image's own pattern, :math:`p = clip(x + \delta)`.

    The mask is where delta is not zero, alpha is 1: x' is x + delta there, cut to the value range.
    """

    @abstractmethod
    def perturbation(self, image_shape) -> np.ndarray:
        """Return what is added, shape (C, H, W), in units of the width of the value range."""

    def check(self, image_shape, n_classes=2):
        """Raise InvalidInput if `image_shape` is not an image shape."""
        self.perturbation(check_image_shape(image_shape))

    def _draw(self, images, class_index, image_shape, low, high):
        delta = ((high - low) * self.perturbation(image_shape)).astype(images.dtype)
        return stamp(images, (delta != 0).astype(images.dtype), np.clip(images + delta, low, high))

    def _picture(self, image_shape, class_index):
        delta = self.perturbation(image_shape)
        size = np.abs(delta).max() or 1.0  # shown at full contrast: the real one is meant not to be seen
        return _rgba(0.5 + 0.5 * delta / size, 1.0)


def check_alpha(alpha):
    """Return the blending weight in (0, 1]."""
    return check_number(alpha, "alpha", low=0, high=1, open_low=True, hint="1 replaces pixels, 0.2 blends in 20 %.")


def set_fields(trigger, **values):
    """Set checked values on a frozen trigger, in its `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(trigger, name, value)


def fingerprint(array):
    """Return shape and checksum of a pattern, for `repr`."""
    return f"<{'x'.join(map(str, array.shape))}, crc32={zlib.crc32(array.tobytes()):08x}>"
