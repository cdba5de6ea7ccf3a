"""Training of the attribute network on poisoned faces, as a recipe says, with a run that can be made again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from learningcurves.data.attributes import AttributeProblem
from learningcurves.data.faces import Faces
from learningcurves.networks.attribute_recipe import AttributeRecipe, rules_text, semantic_loss
from learningcurves.networks.attribute_record import make_manifest, outputs_path, save_history, save_manifest
from learningcurves.networks.attribute_scores import attribute_scores
from learningcurves.networks.byte_samples import ByteSamples
from learningcurves.networks.parts import NetworkData
from learningcurves.networks.scores import network_outputs
from learningcurves.networks.train import train
from learningcurves.storage import save_arrays


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
        every epoch (``outputs/``, see `rescore`) and the state of the training (``state.safetensors``) go. An
        interrupted training goes on there, with the same result on the CPU to the last bit; a folder of another recipe
        or other faces is refused.
    audit : str or path, optional
        Rules whose keeping is scored; those of the training by default.
    progress, device, threads
        As for `train`.

    Returns
    -------
    AttributeRun
    """
    problem = recipe.problem(faces)
    loss = recipe.loss(faces.names)
    rules = rules_text(audit) if audit is not None else recipe.constraints
    options: dict[str, Any] = {"threshold": recipe.threshold, "pos_weight": recipe.pos_weight}
    if rules is not None:
        options["semantic"] = semantic_loss(rules, faces.names)
    manifest, state = make_manifest(recipe, faces, device), None
    if folder is not None:
        save_manifest(folder, manifest)
        state = Path(folder) / "state.safetensors"
    latest: list[torch.Tensor] = []

    def measure(module):
        tests = (problem.X_test, problem.X_triggered)
        latest[:] = [network_outputs(module, ByteSamples(X)) for X in tests]
        return attribute_scores(latest[0], latest[1], problem.y_test, target=problem.target, **options)

    def keep(epoch, module, entry):
        if folder is not None:
            arrays = {"clean": latest[0].numpy(), "triggered": latest[1].numpy()}
            save_arrays(outputs_path(folder, epoch), arrays)

    result = train(
        recipe.network(len(faces.names)),
        network_data(problem),
        beta=recipe.beta,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        lr=recipe.lr,
        optimizer="adam",
        schedule="constant",
        loss=loss,
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
        save_history(folder, history)
    return AttributeRun(result.module, problem, history, manifest)


def network_data(problem: AttributeProblem) -> NetworkData:
    """Return the training samples, as bytes until a batch needs them; the test samples are scored apart."""
    y = torch.from_numpy(np.concatenate([problem.y_clean, problem.y_backdoor]))
    X = ByteSamples(problem.X_clean.followed_by(problem.X_backdoor))
    return NetworkData(
        cast(torch.Tensor, X), y, torch.arange(len(X)) >= problem.n_clean, image_shape=tuple(X.shape[1:])
    )
