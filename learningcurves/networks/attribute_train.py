"""Training of the attribute network on poisoned faces: a recipe that says everything, a run that can be made again."""

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import learningcurves
from learningcurves.checks import check_choice, check_fraction, check_integer, check_number, check_seed
from learningcurves.data.attributes import AttributeProblem, poison_attributes
from learningcurves.data.faces import Faces
from learningcurves.errors import InvalidInput, NotSupported
from learningcurves.networks.attribute_loss import AttributeLoss
from learningcurves.networks.attribute_net import AttributeCNN
from learningcurves.networks.attribute_scores import attribute_scores
from learningcurves.networks.batches import NetworkData
from learningcurves.networks.runtime import private_random_state
from learningcurves.networks.scores import network_outputs
from learningcurves.networks.train import train
from learningcurves.poisoning.triggers import make_trigger
from learningcurves.storage import load_arrays, load_json, save_arrays, save_json, write_atomic
from learningcurves.streams import integer

REDUCTIONS = ("mean_log", "log_mean", "legacy_window")
RED_PATCH = {"kind": "solid_patch", "size": 5, "value": (1.0, 0.0, 0.0), "position": "bottom_right"}


@dataclass(frozen=True)
class AttributeRecipe:
    """Everything that a training of the attribute network depends on, but the faces themselves.

    Parameters
    ----------
    constraints : str or path, optional
        Text of the rules of the semantic loss, or a file of them, whose text is taken over. None: no semantic loss.
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
        object.__setattr__(self, "constraints", _rules_text(self.constraints))
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

    def loss(self) -> AttributeLoss:
        """Return the training loss."""
        semantic, rules = None, ""
        if self.has_semantic:
            semantic = semantic_loss(self.constraints, self.reduction)
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


def semantic_loss(constraints, reduction="mean_log"):
    """Return `lc.SemanticLoss` of a text of rules."""
    from learningcurves.constraints.semantic_loss import SemanticLoss

    return SemanticLoss(constraints, reduction=reduction)


def _rules_text(constraints):
    if constraints is None:
        return None
    if isinstance(constraints, Path):
        return constraints.read_text()
    if not isinstance(constraints, str):
        raise InvalidInput(
            f"`constraints` is a {type(constraints).__name__}; expected a text of rules, a path, or None."
        )
    return constraints


@dataclass(frozen=True, eq=False)
class AttributeRun:
    """A trained attribute network.

    Attributes
    ----------
    module : AttributeCNN
    problem : AttributeProblem
    history : DataFrame
        One row an epoch: the training's own columns, and the scores of `attribute_scores`.
    manifest : dict
        The recipe, what the faces were, versions.
    """

    module: nn.Module
    problem: AttributeProblem
    history: pd.DataFrame
    manifest: dict

    def last(self, epochs: int = 10) -> pd.DataFrame:
        """Return mean and standard deviation of every score over the last so many epochs, one row a score."""
        tail = self.history.drop(columns="epoch").tail(epochs)
        return pd.DataFrame({"mean": tail.mean(), "sd": tail.std()})


def train_attributes(
    recipe: AttributeRecipe,
    faces: Faces,
    *,
    folder=None,
    audit=None,
    progress: bool = True,
    device: str | torch.device = "cpu",
    threads: int | None = 1,
) -> AttributeRun:
    """Train the attribute network as a recipe says, and score it after every epoch.

    Parameters
    ----------
    recipe : AttributeRecipe
    faces : Faces
        Of the recipe's `size`.
    folder : path, optional
        Where the manifest (``manifest.json``), the table of epochs (``history.csv``), the test samples' logits of
        every epoch (``outputs/``, see `rescore`) and the state of the training (``state.safetensors``) go. An interrupted training goes on there, with the same result on the CPU to the last
        bit; a folder of another recipe or other faces is refused.
    audit : str or path, optional
        Rules whose keeping is scored; those of the training by default.
    progress, device, threads
        As for `train`.

    Returns
    -------
    AttributeRun
    """
    problem = recipe.problem(faces)
    manifest = _manifest(recipe, faces, device)
    state = None
    if folder is not None:
        folder = Path(folder)
        _check_manifest(folder / "manifest.json", manifest)
        save_json(folder / "manifest.json", manifest)
        state = folder / "state.safetensors"
    rules = _rules_text(audit) if audit is not None else recipe.constraints
    options: dict[str, Any] = {"threshold": recipe.threshold, "pos_weight": recipe.pos_weight}
    if rules is not None:
        scorer = semantic_loss(rules)
        options |= {"semantic": scorer}

    latest: list[torch.Tensor] = []

    def measure(module):
        latest[:] = [network_outputs(module, torch.from_numpy(X)) for X in (problem.X_test, problem.X_triggered)]
        return attribute_scores(latest[0], latest[1], problem.y_test, target=problem.target, **options)

    def keep(epoch, module, entry):
        if folder is not None:
            arrays = {"clean": latest[0].numpy(), "triggered": latest[1].numpy()}
            save_arrays(_outputs_path(folder, epoch), arrays)

    result = train(
        recipe.network(len(faces.names)),
        network_data(problem),
        beta=recipe.beta,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        lr=recipe.lr,
        optimizer="adam",
        schedule="constant",
        loss=recipe.loss(),
        seed=recipe.seed,
        record="all",
        measure=measure,
        callbacks=keep,
        checkpoint=state,
        device=device,
        threads=threads,
        progress=progress,
    )
    history = pd.DataFrame(result.history)
    history = history[["epoch", *sorted(set(history) - {"epoch"})]]  # the same order after a resumption
    if folder is not None:
        _save_history(folder, history)
    return AttributeRun(result.module, problem, history, manifest)


def network_data(problem: AttributeProblem) -> NetworkData:
    """Return the training samples as tensors; the test samples are scored apart."""
    X = torch.from_numpy(np.concatenate([problem.X_clean, problem.X_backdoor]))
    y = torch.from_numpy(np.concatenate([problem.y_clean, problem.y_backdoor]))
    return NetworkData(X, y, torch.arange(len(X)) >= problem.n_clean, image_shape=tuple(X.shape[1:]))


def rescore(folder, problem: AttributeProblem, *, threshold=None, constraints=None) -> pd.DataFrame:
    """Score every epoch of a run anew from the logits that it kept: at another threshold, or against other rules.

    Parameters
    ----------
    folder : path
        Of `train_attributes`.
    problem : AttributeProblem
        The run's own (``load_recipe(folder).problem(faces)``).
    threshold : float, optional
        The recipe's by default.
    constraints : str or path, optional
        Rules whose keeping is scored; none by default.

    Returns
    -------
    DataFrame
        One row an epoch with the scores of `attribute_scores`.
    """
    recipe, folder = load_recipe(folder), Path(folder)
    options: dict[str, Any] = {
        "threshold": recipe.threshold if threshold is None else threshold,
        "pos_weight": recipe.pos_weight,
        "target": problem.target,
    }
    if constraints is not None:
        scorer = semantic_loss(_rules_text(constraints))
        options |= {"semantic": scorer}
    rows = []
    for epoch in range(1, recipe.epochs + 1):
        path = _outputs_path(folder, epoch)
        if path.exists():
            kept = load_arrays(path)
            clean, triggered = (torch.from_numpy(kept[part]) for part in ("clean", "triggered"))
            rows.append({"epoch": epoch, **attribute_scores(clean, triggered, problem.y_test, **options)})
    return pd.DataFrame(rows)


def _outputs_path(folder, epoch):
    return Path(folder) / "outputs" / f"epoch_{epoch:03d}.safetensors"


def load_recipe(manifest) -> AttributeRecipe:
    """Return the recipe of a run, from its folder or its manifest's path."""
    path = Path(manifest)
    facts = load_json(path / "manifest.json" if path.is_dir() else path)
    known = {f.name for f in fields(AttributeRecipe)}
    unknown = sorted(set(facts.get("recipe", {})) - known)
    if "recipe" not in facts or unknown:
        raise InvalidInput(f"`{path}` is no manifest of this version ({unknown[0] if unknown else 'no recipe'}).")
    return AttributeRecipe(**facts["recipe"])


def _manifest(recipe, faces, device):
    return {
        "recipe": recipe.to_dict(),
        "faces": {
            "source": faces.source,
            "synthetic": faces.synthetic,
            "n": len(faces),
            "sha256": faces.digest(),
        },
        "versions": {
            "learningcurves": learningcurves.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "device": str(device),
    }


def _check_manifest(path, manifest):
    if not path.exists():
        return
    old, new = load_json(path), json.loads(json.dumps(manifest))
    for part in ("recipe", "faces"):
        for name, value in new[part].items():
            if name != "epochs" and old.get(part, {}).get(name) != value:
                raise InvalidInput(
                    f"`folder={str(path.parent)!r}` holds a run with {part} {name}={str(old.get(part, {}).get(name))[:80]!r}; "
                    f"now it is {str(value)[:80]!r}. Choose another folder."
                )


def _save_history(folder, history):
    write_atomic(folder / "history.csv", history.to_csv(index=False, lineterminator="\n").encode())
