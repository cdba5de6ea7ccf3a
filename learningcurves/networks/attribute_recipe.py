"""The recipe of an attribute network: everything that its training depends on, but the faces themselves."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from learningcurves.checks import check_choice, check_fraction, check_integer, check_number, check_seed
from learningcurves.constraints.notation import text_of
from learningcurves.data.attributes import AttributeProblem, poison_attributes
from learningcurves.data.faces import Faces
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.attribute_loss import AttributeLoss
from learningcurves.networks.attribute_net import AttributeCNN
from learningcurves.networks.runtime import private_random_state
from learningcurves.poisoning.triggers import make_trigger
from learningcurves.streams import integer

REDUCTIONS = ("mean_log", "log_mean", "legacy_window")
RED_PATCH = {"kind": "solid_patch", "size": 5, "value": (1.0, 0.0, 0.0), "position": "bottom_right"}


@dataclass(frozen=True)
class AttributeRecipe:
    """Everything that a training of the attribute network depends on, but the faces themselves.

    Parameters
    ----------
    constraints : str or path, optional
        Text of the rules of the semantic loss, or a file of them, whose text is taken over. They name an output by its
        number, ``X0.8``, or its attribute, ``Mustache``. None: no semantic loss.
    reduction : {"mean_log", "log_mean", "legacy_window"}
        See `lc.SemanticLoss`. The last two are losses of a batch and need ``beta = 1``.
    sl_weight : float, default=0.2
        Weight of the semantic loss.
    trigger : dict
        As for `poisoning.triggers.make_trigger`; by default a red square of 5 pixels at the bottom right.
    target, fraction, labelled, stratify, test_share, n_train, n_test
        See `poison_attributes`.
    beta : float, default=1
        Weight of the backdoor samples.
    pos_weight, threshold : float
        Weight of positive labels in the cross-entropy; probability above which an attribute is predicted.
    epochs, batch_size, lr
        Of Adam, at a constant rate.
    size, width : int
        Side of the images and channels of the first convolution.
    seed : int
        Root of every draw: split, poison, initial weights, order of batches.
    """

    constraints: str | None = None
    reduction: str = "mean_log"
    sl_weight: float = 0.2
    trigger: dict = field(default_factory=lambda: dict(RED_PATCH))
    target: str = "Mustache"
    fraction: float = 0.1
    labelled: float = 1.0
    stratify: str | None = "Male"
    test_share: float = 0.2
    n_train: int | None = None
    n_test: int | None = None
    beta: float = 1.0
    pos_weight: float = 5.0
    threshold: float = 0.6
    epochs: int = 30
    batch_size: int = 64
    lr: float = 1e-3
    size: int = 64
    width: int = 32
    seed: int = 42

    def __post_init__(self):
        object.__setattr__(self, "constraints", rules_text(self.constraints))
        if not isinstance(self.trigger, Mapping):
            raise InvalidInput(
                f'`trigger={self.trigger!r}` is not a dict, such as {{"kind": "solid_patch", "size": 5}}.'
            )
        trigger = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(self.trigger).items()}
        make_trigger(trigger)
        object.__setattr__(self, "trigger", trigger)
        check_choice(self.reduction, "reduction", REDUCTIONS)
        check_fraction(self.fraction)
        for name in ("sl_weight", "pos_weight"):
            check_number(getattr(self, name), name, low=0)
        check_number(self.threshold, "threshold", low=1e-6, high=1 - 1e-6, hint="It is a probability.")
        check_number(self.beta, "beta", low=0, high=1, hint="It is the weight of the backdoor samples.")
        for name in ("epochs", "batch_size"):
            check_integer(getattr(self, name), name, low=1)
        check_seed(self.seed)
        if self.has_semantic and self.reduction != "mean_log" and self.beta != 1:
            raise NotSupported(
                f"`reduction={self.reduction!r}` is a loss of the batch as a whole, in which no sample has a weight: it "
                f'needs `beta=1` (here {self.beta:g}). Use reduction="mean_log".'
            )

    @property
    def has_semantic(self) -> bool:
        """Whether a semantic loss takes part."""
        return self.constraints is not None and self.sl_weight > 0

    def problem(self, faces: Faces) -> AttributeProblem:
        """Return the samples of this recipe."""
        if faces.images.shape[1] != self.size:
            raise InvalidInput(
                f"`faces` are of {faces.images.shape[1]} pixels, the recipe wants {self.size}: load_faces(size={self.size})."
            )
        draws = ("target", "fraction", "labelled", "stratify", "test_share", "n_train", "n_test", "seed")
        return poison_attributes(faces, make_trigger(self.trigger), **{name: getattr(self, name) for name in draws})

    def loss(self, names=None) -> AttributeLoss:
        """Return the training loss; `names` are those of the attributes, for rules that use them."""
        semantic, rules = None, ""
        if self.has_semantic:
            semantic = semantic_loss(self.constraints, names, self.reduction)
            rules = hashlib.sha256(str(self.constraints).encode()).hexdigest()[:16]
        weight = self.sl_weight if self.has_semantic else 0.0
        return AttributeLoss(self.pos_weight, weight, self.labelled, self.reduction, rules, semantic)

    def network(self, n_attributes: int) -> AttributeCNN:
        """Return the network with the initial weights of the seed."""
        with private_random_state(seed=integer(self.seed, use="init")):
            return AttributeCNN(self.size, n_attributes, self.width)

    def to_dict(self) -> dict:
        """Return plain values, from which ``AttributeRecipe(**values)`` is this recipe again."""
        return asdict(self)


def semantic_loss(constraints, names=None, reduction="mean_log"):
    """Return `lc.SemanticLoss` of a text of rules."""
    from learningcurves.constraints.semantic_loss import SemanticLoss

    return SemanticLoss(constraints, names=names, reduction=reduction)


def rules_text(constraints) -> str | None:
    """Return the text of rules that are given as a text or as a file; None stays None."""
    return None if constraints is None else text_of(constraints)
