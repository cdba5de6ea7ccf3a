"""Triggers that cover a part of the image: random, solid and given patches."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from learningcurves.checks import check_choice, check_integer, check_number, check_seed
from learningcurves.errors import InvalidInput
from learningcurves.poisoning.base import StampedTrigger, check_alpha, fingerprint, set_fields
from learningcurves.poisoning.stamping import check_pattern, check_position, corner, pattern_on
from learningcurves.streams import generator

_BADNETS = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])  # Gu et al. 2017, the 3x3 pattern in wide use


def _check_size(size):
    sides = size if isinstance(size, tuple | list) else (size, size)
    if len(sides) != 2:
        raise InvalidInput(f"`size={size!r}` is not a side length nor (height, width).")
    return tuple(check_integer(s, "size", low=1, hint="It is the side of the patch in pixels.") for s in sides)


def _place(patch, position, image_shape):
    """Return mask and pattern of a (C, h, w) patch on an otherwise untouched image."""
    row, col = corner(position, patch.shape[1:], image_shape)
    here = (slice(None), slice(row, row + patch.shape[1]), slice(col, col + patch.shape[2]))
    mask, pattern = np.zeros(image_shape), np.zeros(image_shape)
    mask[here], pattern[here] = 1.0, patch
    return mask, pattern


@dataclass(frozen=True)
class RandomPatch(StampedTrigger):
    """A patch of independent uniform pixels, one per true class or one for all.

    Parameters
    ----------
    size : int or (height, width), default=3
        Size in pixels.
    per_class : bool, default=True
        Whether each true class has its own patch, as in the learning-curves paper.
    seed : int, default=0
        Root of the random stream. A class keeps its patch whatever the number of classes.
    position : str or (row, column), default="bottom_right"
        A corner, "center", or the top left pixel.
    draw : {"stream", "paper"}, default="stream"
        "paper" takes the values of the released code: ``RandomState(seed).rand(n_classes, channels, size, size)``.
    alpha : float, default=1
        1 replaces the pixels, less blends.
    """

    size: int | tuple[int, int] = 3
    per_class: bool = True
    seed: int = 0
    position: str | tuple[int, int] = "bottom_right"
    draw: str = "stream"
    alpha: float = 1.0
    kind: ClassVar[str] = "random_patch"

    def __post_init__(self):
        h, w = _check_size(self.size)
        if not isinstance(self.per_class, bool | np.bool_):
            raise InvalidInput(f"`per_class={self.per_class!r}` is not True or False.")
        set_fields(self, size=h if h == w else (h, w), per_class=bool(self.per_class), seed=check_seed(self.seed))
        set_fields(self, position=check_position(self.position), alpha=check_alpha(self.alpha))
        set_fields(self, draw=check_choice(self.draw, "draw", ("stream", "paper")))

    @property
    def name(self):
        """Kind and size."""
        return "{}_{}x{}".format(self.kind, *_check_size(self.size))

    def patch(self, channels, class_index=0):
        """Return the patch of one class, shape (channels, height, width), on the scale 0 to 1."""
        h, w = _check_size(self.size)
        c = int(class_index) if self.per_class else 0
        if self.draw == "paper":  # the stream fills class after class, so earlier classes do not depend on later ones
            return np.random.RandomState(self.seed).rand(c + 1, channels, h, w)[c]
        return generator(self.seed, use="trigger", kind=self.kind, size=(h, w), class_index=c).random((channels, h, w))

    def layer(self, image_shape, class_index=0):
        """Return mask and pattern of one class, each of shape (C, H, W)."""
        corner(self.position, _check_size(self.size), image_shape)  # before a huge patch is drawn
        return _place(self.patch(image_shape[0], class_index), self.position, image_shape)


@dataclass(frozen=True)
class SolidPatch(StampedTrigger):
    """A patch of one grey value or colour.

    Parameters
    ----------
    size : int or (height, width), default=3
        Size in pixels.
    value : float or sequence of one float a channel, default=1.0
        0 is the low, 1 the high end of the value range.
    position : str or (row, column), default="bottom_right"
        A corner, "center", or the top left pixel.
    alpha : float, default=1
        1 replaces the pixels, less blends.
    """

    size: int | tuple[int, int] = 3
    value: float | tuple[float, ...] = 1.0
    position: str | tuple[int, int] = "bottom_right"
    alpha: float = 1.0
    kind: ClassVar[str] = "solid_patch"

    def __post_init__(self):
        h, w = _check_size(self.size)
        hint = "0 is the low and 1 the high end of the value range; divide by 255?"
        if isinstance(self.value, tuple | list | np.ndarray):
            value = tuple(check_number(v, "value", low=0, high=1, hint=hint) for v in self.value)
        else:
            value = check_number(self.value, "value", low=0, high=1, hint=hint)
        set_fields(self, size=h if h == w else (h, w), value=value, alpha=check_alpha(self.alpha))
        set_fields(self, position=check_position(self.position))

    @property
    def name(self):
        """Kind and size."""
        return "{}_{}x{}".format(self.kind, *_check_size(self.size))

    def layer(self, image_shape, class_index=0):
        """Return mask and pattern, each of shape (C, H, W)."""
        colour = np.atleast_1d(self.value)
        if len(colour) not in (1, image_shape[0]):
            raise InvalidInput(
                f"`value={self.value}` has {len(colour)} channels where the images have {image_shape[0]}."
            )
        corner(self.position, _check_size(self.size), image_shape)
        patch = np.broadcast_to(colour[:, None, None], (image_shape[0], *_check_size(self.size)))
        return _place(patch, self.position, image_shape)


@dataclass(frozen=True, eq=False)
class ImagePatch(StampedTrigger):
    """A given picture as the patch.

    Parameters
    ----------
    pattern : array of shape (h, w) or (C, h, w)
        Pixels on the scale 0 to 1; (h, w) goes on every channel. Zeros are stamped too.
    position : str or (row, column), default="bottom_right"
        A corner, "center", or the top left pixel.
    alpha : float, default=1
        1 replaces the pixels, less blends.
    """

    pattern: np.ndarray
    position: str | tuple[int, int] = "bottom_right"
    alpha: float = 1.0
    kind: ClassVar[str] = "image_patch"

    def __post_init__(self):
        set_fields(self, pattern=check_pattern(self.pattern), alpha=check_alpha(self.alpha))
        set_fields(self, position=check_position(self.position))

    def __repr__(self):
        return f"ImagePatch(pattern={fingerprint(self.pattern)}, position={self.position!r}, alpha={self.alpha})"

    @property
    def name(self):
        """Kind and size."""
        return "{}_{}x{}".format(self.kind, *self.pattern.shape[-2:])

    def layer(self, image_shape, class_index=0):
        """Return mask and pattern, each of shape (C, H, W)."""
        return _place(pattern_on(self.pattern, image_shape), self.position, image_shape)


def badnets_patch(position="bottom_right", alpha=1.0) -> ImagePatch:
    """Return the 3x3 BadNets pattern with its published values, the same on all channels.

    Parameters
    ----------
    position, alpha
        As for `ImagePatch`.

    Returns
    -------
    ImagePatch
    """
    return ImagePatch(_BADNETS, position=position, alpha=alpha)


@dataclass(frozen=True)
class Checkerboard(StampedTrigger):
    """The 3x3 BadNets pattern in all four corners, the left ones mirrored, as clean-label attacks use it.

    Parameters
    ----------
    alpha : float in (0, 1], default=1
        Opacity; 1 replaces the pixels.
    """

    alpha: float = 1.0
    kind: ClassVar[str] = "checkerboard"

    def __post_init__(self):
        set_fields(self, alpha=check_alpha(self.alpha))

    def layer(self, image_shape, class_index=0):
        """Return mask and pattern, each of shape (C, H, W)."""
        if min(image_shape[1:]) < 6:
            raise InvalidInput(
                f"four 3x3 corners do not fit images of {image_shape[1]}x{image_shape[2]}; at least 6x6."
            )
        mask, pattern = np.zeros(image_shape), np.zeros(image_shape)
        for position in ("top_left", "top_right", "bottom_left", "bottom_right"):
            board = _BADNETS[:, ::-1] if "left" in position else _BADNETS
            more, values = _place(pattern_on(board, image_shape), position, image_shape)
            mask, pattern = mask + more, pattern + values
        return mask, pattern
