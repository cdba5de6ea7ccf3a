"""One solid patch in every corner, and perhaps in the centre, as one trigger."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from learningcurves.errors import InvalidInput
from learningcurves.poisoning.base import StampedTrigger, set_fields
from learningcurves.poisoning.patches import SolidPatch

_CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")


@dataclass(frozen=True)
class CornerPatches(StampedTrigger):
    """Solid patches in the four corners and, unless told otherwise, in the centre.

    Parameters
    ----------
    size, value, alpha
        As for `SolidPatch`.
    center : bool, default=True
        Whether there is a fifth patch in the centre.
    """

    size: int | tuple[int, int] = 3
    value: float | tuple[float, ...] = 1.0
    center: bool = True
    alpha: float = 1.0
    kind: ClassVar[str] = "corner_patches"

    def __post_init__(self):
        if not isinstance(self.center, bool | np.bool_):
            raise InvalidInput(f"`center={self.center!r}` is not True or False.")
        one = SolidPatch(self.size, self.value, alpha=self.alpha)  # checks them
        set_fields(self, size=one.size, value=one.value, alpha=one.alpha, center=bool(self.center))

    @property
    def name(self):
        """Kind and size."""
        return SolidPatch(self.size).name.replace(SolidPatch.kind, self.kind)

    def layer(self, image_shape, class_index=0):
        """Return mask and pattern, each of shape (C, H, W)."""
        places = (*_CORNERS, "center") if self.center else _CORNERS
        layers = [SolidPatch(self.size, self.value, place).layer(image_shape) for place in places]
        # one colour throughout, so where patches overlap on a small image it does not matter which is on top
        return np.max([mask for mask, _ in layers], axis=0), np.max([pattern for _, pattern in layers], axis=0)
