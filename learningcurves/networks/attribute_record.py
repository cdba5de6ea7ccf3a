"""What a training of the attribute network leaves on disk: its manifest, its table of epochs, the test logits."""

import json
import platform
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import learningcurves
from learningcurves.data.attributes import AttributeProblem
from learningcurves.errors import InvalidInput
from learningcurves.networks.attribute_recipe import AttributeRecipe, rules_text, semantic_loss
from learningcurves.networks.attribute_scores import attribute_scores
from learningcurves.storage import load_arrays, load_json, save_json, write_atomic


def load_recipe(manifest) -> AttributeRecipe:
    """Return the recipe of a run, from its folder or its manifest's path."""
    path = Path(manifest)
    facts = load_json(path / "manifest.json" if path.is_dir() else path)
    known = {f.name for f in fields(AttributeRecipe)}
    unknown = sorted(set(facts.get("recipe", {})) - known)
    if "recipe" not in facts or unknown:
        raise InvalidInput(f"`{path}` is no manifest of this version ({unknown[0] if unknown else 'no recipe'}).")
    return AttributeRecipe(**facts["recipe"])


def make_manifest(recipe: AttributeRecipe, faces, device) -> dict:
    """Return the recipe, what the faces were, and versions."""
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


def save_manifest(folder, manifest):
    """Write the manifest of a run; refuse a folder that holds a run of another recipe or other faces."""
    path = Path(folder) / "manifest.json"
    if path.exists():
        _check_same(path, manifest)
    save_json(path, manifest)


def _check_same(path, manifest):
    old, new = load_json(path), json.loads(json.dumps(manifest))
    for part in ("recipe", "faces"):
        for name, value in new[part].items():
            if name != "epochs" and old.get(part, {}).get(name) != value:
                raise InvalidInput(
                    f"`folder={str(path.parent)!r}` holds a run with {part} {name}={str(old.get(part, {}).get(name))[:80]!r}; "
                    f"now it is {str(value)[:80]!r}. Choose another folder."
                )


def outputs_path(folder, epoch) -> Path:
    """Return the file of the test samples' logits after an epoch."""
    return Path(folder) / "outputs" / f"epoch_{epoch:03d}.safetensors"


def save_history(folder, history):
    """Write the table of epochs."""
    write_atomic(Path(folder) / "history.csv", history.to_csv(index=False, lineterminator="\n").encode())


def rescore(folder, problem: AttributeProblem, *, threshold=None, constraints=None, rows=None) -> pd.DataFrame:
    """Score every epoch of a run anew from the logits that it kept: at another threshold, other rules, some faces.

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
    rows : bool array (n_test,) or int array, optional
        Test faces that are scored, such as ``problem.y_test[:, problem.names.index("Male")] == 1``; all by default.

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
        options["semantic"] = semantic_loss(rules_text(constraints), problem.names)
    truth, chosen = problem.y_test, slice(None) if rows is None else np.asarray(rows)
    found = []
    for epoch in range(1, recipe.epochs + 1):
        path = outputs_path(folder, epoch)
        if path.exists():
            kept = load_arrays(path)
            clean, triggered = (torch.from_numpy(kept[part][chosen]) for part in ("clean", "triggered"))
            found.append({"epoch": epoch, **attribute_scores(clean, triggered, truth[chosen], **options)})
    return pd.DataFrame(found)
