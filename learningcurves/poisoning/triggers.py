"""All triggers by name: one for each class, and one from a table of options."""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import ClassVar

from learningcurves.checks import check_choice
from learningcurves.errors import InvalidInput
from learningcurves.poisoning.base import Trigger, set_fields
from learningcurves.poisoning.corners import CornerPatches
from learningcurves.poisoning.overlays import Blend, Invisible, Overlay, Sinusoid
from learningcurves.poisoning.patches import Checkerboard, ImagePatch, RandomPatch, SolidPatch, badnets_patch
from learningcurves.poisoning.stamping import check_image_shape

__all__ = [
    "Blend",
    "Checkerboard",
    "CornerPatches",
    "ImagePatch",
    "Invisible",
    "Overlay",
    "PerClass",
    "RandomPatch",
    "Sinusoid",
    "SolidPatch",
    "Trigger",
    "badnets_patch",
    "make_trigger",
]


@dataclass(frozen=True)
class PerClass(Trigger):
    """One trigger of any kind for each true class.

    Parameters
    ----------
    triggers : sequence of Trigger
        As many as there are classes; the c-th goes on samples of the c-th sorted label.
    """

    triggers: tuple[Trigger, ...]
    per_class: ClassVar[bool] = True
    kind: ClassVar[str] = "per_class"

    def __post_init__(self):
        triggers = tuple(self.triggers)
        if not triggers or not all(isinstance(t, Trigger) for t in triggers):
            raise InvalidInput(
                "`triggers` is not a sequence of triggers. Pass for example (SolidPatch(2), Invisible())."
            )
        set_fields(self, triggers=triggers)

    @property
    def name(self):
        """The names of the triggers."""
        return "_or_".join(t.name for t in self.triggers)

    def check(self, image_shape, n_classes=2):
        """Raise InvalidInput if a trigger does not fit, or their number is not that of the classes."""
        if len(self.triggers) != n_classes:
            raise InvalidInput(
                f"`triggers` holds {len(self.triggers)} triggers for {n_classes} classes. Give one a class."
            )
        for trigger in self.triggers:
            trigger.check(check_image_shape(image_shape), n_classes)

    def _draw(self, images, class_index, image_shape, low, high):
        return self.triggers[class_index]._draw(images, class_index, image_shape, low, high)

    def _picture(self, image_shape, class_index):
        return self.triggers[class_index]._picture(image_shape, class_index)


KINDS = {
    "random_patch": RandomPatch,
    "solid_patch": SolidPatch,
    "image_patch": ImagePatch,
    "badnets": badnets_patch,
    "checkerboard": Checkerboard,
    "corner_patches": CornerPatches,
    "blend": Blend,
    "invisible": Invisible,
    "sinusoid": Sinusoid,
}


def make_trigger(options: Mapping) -> Trigger:
    """Return the trigger of a table such as ``{"kind": "random_patch", "size": 2}``, for grids and the command line."""
    options = dict(options)
    kind = check_choice(options.pop("kind", None), "kind", KINDS)
    try:
        return KINDS[kind](**options)
    except TypeError as error:
        known = list(signature(KINDS[kind]).parameters)
        strange = [name for name in options if name not in known]
        if not strange:
            raise InvalidInput(f"trigger {kind!r}: {error}.") from None
        raise InvalidInput(
            f"`{strange[0]}` is no option of the trigger {kind!r}; it takes {', '.join(known) or 'none'}."
        ) from None
