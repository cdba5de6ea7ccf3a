"""Triggers that cover the whole image: blends, any mask and pattern, a faint lattice, stripes."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from learningcurves.checks import check_choice, check_number, check_seed
from learningcurves.errors import InvalidInput
from learningcurves.poisoning.base import AddedTrigger, StampedTrigger, check_alpha, fingerprint, set_fields
from learningcurves.poisoning.stamping import check_pattern, pattern_on
from learningcurves.streams import generator


@dataclass(frozen=True, eq=False)
class Blend(StampedTrigger):
    """A picture or noise blended over the whole image.

    Parameters
    ----------
    pattern : array of shape (H, W) or (C, H, W), optional
        The picture, of the size of the images, on the scale 0 to 1. Noise is drawn when it is None.
    alpha : float, default=0.2
        Weight of the pattern, in (0, 1].
    noise : {"uniform", "gaussian"}, default="uniform"
        Uniform on [0, 1], or Gaussian with mean 1/2 and standard deviation 1/4, clipped to [0, 1].
    seed : int, default=0
        Root of the random stream of the noise.
    """

    pattern: np.ndarray | None = None
    alpha: float = 0.2
    noise: str = "uniform"
    seed: int = 0
    kind: ClassVar[str] = "blend"

    def __post_init__(self):
        if self.pattern is not None:
            set_fields(self, pattern=check_pattern(self.pattern))
        set_fields(self, alpha=check_alpha(self.alpha), seed=check_seed(self.seed))
        set_fields(self, noise=check_choice(self.noise, "noise", ("uniform", "gaussian")))

    def __repr__(self):
        what = (
            f"noise={self.noise!r}, seed={self.seed}"
            if self.pattern is None
            else f"pattern={fingerprint(self.pattern)}"
        )
        return f"Blend({what}, alpha={self.alpha})"

    @property
    def shown_shape(self):
        """That of the picture, if it has one."""
        return super().shown_shape if self.pattern is None else _shape_of(self.pattern)

    def layer(self, image_shape, class_index=0):
        """Return mask (all ones) and pattern, each of shape (C, H, W)."""
        if self.pattern is None:
            rng = generator(self.seed, use="trigger", kind=self.kind, noise=self.noise)
            uniform = self.noise == "uniform"
            pattern = rng.random(image_shape) if uniform else np.clip(rng.normal(0.5, 0.25, image_shape), 0, 1)
        else:
            pattern = _full_size(self.pattern, image_shape, "pattern")
        return np.ones(image_shape), pattern


@dataclass(frozen=True, eq=False)
class Overlay(StampedTrigger):
    r"""Any picture through any mask: :math:`x' = (1-m)\,x + m\,((1-\alpha)\,x + \alpha p)` with all three given.

    Parameters
    ----------
    pattern : array of shape (H, W) or (C, H, W)
        The picture p, of the size of the images, on the scale 0 to 1. Zeros are stamped like any other value.
    mask : array of shape (H, W) or (C, H, W)
        Where it goes, in [0, 1]; values in between blend.
    alpha : float, default=1
        Weight of the pattern inside the mask, in (0, 1].
    """

    pattern: np.ndarray
    mask: np.ndarray
    alpha: float = 1.0
    kind: ClassVar[str] = "overlay"

    def __post_init__(self):
        set_fields(self, pattern=check_pattern(self.pattern), mask=check_pattern(self.mask, "mask"))
        set_fields(self, alpha=check_alpha(self.alpha))
        if not self.mask.any():
            raise InvalidInput("`mask` is zero everywhere, so nothing is stamped. Set it to 1 where the pattern goes.")

    def __repr__(self):
        return f"Overlay(pattern={fingerprint(self.pattern)}, mask={fingerprint(self.mask)}, alpha={self.alpha})"

    @property
    def shown_shape(self):
        """That of the picture."""
        return _shape_of(max((self.pattern, self.mask), key=lambda a: a.ndim))

    def layer(self, image_shape, class_index=0):
        """Return mask and pattern, each of shape (C, H, W)."""
        return _full_size(self.mask, image_shape, "mask"), _full_size(self.pattern, image_shape, "pattern")


def _full_size(array, image_shape, name):
    """Return a picture of shape (C, H, W) for images of exactly that size."""
    array = pattern_on(array, image_shape, name)
    if array.shape != tuple(image_shape):
        raise InvalidInput(
            f"`{name}` is {'x'.join(map(str, array.shape[1:]))} where the images are "
            f"{image_shape[1]}x{image_shape[2]}. Resize it, or use ImagePatch to put it on a part of the image."
        )
    return array


def _shape_of(picture):
    return (1, *picture.shape) if picture.ndim == 2 else picture.shape


@dataclass(frozen=True)
class Invisible(AddedTrigger):
    """A faint lattice: `strength` is added at every even row and even column, then clipped to the range.

    Parameters
    ----------
    strength : float, default=10/255
        As a share of the value range; 10/255 can hardly be seen.
    """

    strength: float = 10 / 255
    kind: ClassVar[str] = "invisible"

    def __post_init__(self):
        hint = "It is a share of the value range: write 10/255."
        set_fields(self, strength=check_number(self.strength, "strength", low=0, high=1, open_low=True, hint=hint))

    def perturbation(self, image_shape):
        """Return the lattice, shape (C, H, W)."""
        delta = np.zeros(image_shape)
        delta[:, ::2, ::2] = self.strength
        return delta


@dataclass(frozen=True)
class Sinusoid(AddedTrigger):
    r"""Vertical stripes :math:`\Delta\sin(2\pi j f / W)` over the columns j, added and clipped.

    Parameters
    ----------
    amplitude : float, default=40/255
        As a share of the value range.
    frequency : float, default=6
        Periods over the width of the image.

    References
    ----------
    .. [1] Barni, Kallas, Tondi, "A new backdoor attack in CNNs by training set corruption without label
       poisoning", ICIP 2019.
    """

    amplitude: float = 40 / 255
    frequency: float = 6.0
    kind: ClassVar[str] = "sinusoid"

    def __post_init__(self):
        hint = "It is a share of the value range: write 40/255."
        set_fields(self, amplitude=check_number(self.amplitude, "amplitude", low=0, high=1, open_low=True, hint=hint))
        set_fields(self, frequency=check_number(self.frequency, "frequency", low=0, open_low=True))

    def perturbation(self, image_shape):
        """Return the stripes, shape (C, H, W)."""
        width = image_shape[2]
        wave = self.amplitude * np.sin(2 * np.pi * np.arange(width) * self.frequency / width)
        return np.broadcast_to(wave, image_shape)
