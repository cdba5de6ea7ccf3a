"""What the semantic-loss analyses share: faces, cells, one training a cell, tables by model.

Sizes are those of two shared CPU cores; a larger machine changes `SIZES` alone (the thesis: "thesis").
"""

import argparse
import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import study

from learningcurves.data.faces import load_faces
from learningcurves.networks.attribute_recipe import AttributeRecipe
from learningcurves.networks.attribute_record import outputs_path, rescore
from learningcurves.networks.attribute_train import train_attributes
from learningcurves.storage import load_arrays

SEEDS = (1, 2, 3)
RULES = ("base", "targetless", "target_focused")
REDUCTIONS = ("mean_log", "log_mean", "legacy_window")
# side in pixels, channels of the first convolution, training and test faces, epochs, epochs that the means are over
SIZES = {
    "cpu": {"size": 32, "width": 16, "n_train": 5000, "n_test": 1000, "epochs": 20, "last": 6},
    "small": {
        "size": 32, "width": 16, "n_train": 300, "n_test": 80, "epochs": 30, "last": 5,
        "batch_size": 48, "lr": 2e-3, "fraction": 0.2,
    },
    "thesis": {"size": 64, "width": 32, "n_train": None, "n_test": None, "epochs": 30, "last": 10},
}  # fmt: skip
TRIGGERS = [f"{size}-{place}" for size in (1, 5, 10) for place in ("bottom_right", "center", "corners")]
HEADLINE_TRIGGER = "5-bottom_right"
RED = (1.0, 0.0, 0.0)
LEARNED = 0.9  # AUC of the attack from which on a trigger is called learned
SCORES = (
    "ba_clean", "ba_clean_zero", "asr", "asr_modified", "asr_50", "target_rate", "auc_target", "auc_attack",
    "satisfied_clean", "satisfied_triggered", "bce_clean", "loss_triggered", "semantic_clean", "semantic_triggered",
    "asr_men", "asr_women", "auc_women", "p_women", "p_women_triggered", "asr_fpr5",
)  # fmt: skip


# %% Command line


def arguments(question, number):
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--size", choices=SIZES, default="cpu", help="faces, pixels and epochs (see SIZES)")
    parser.add_argument("--small", action="store_true", help="300 drawn faces, a minute, no data needed")
    parser.add_argument("--out", type=Path, default=Path(f"results/{number}"), help="folder of the cells")
    parser.add_argument("--networks", type=Path, default=Path("results/semantic"), help="folder of trained networks")
    parser.add_argument("--tables", type=Path, default=None, help="folder of the tables (default: OUT/tables)")
    parser.add_argument("--images", type=Path, default=None, help="folder of the figures (default: OUT/images)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--rules", nargs="+", default=["none", *RULES], help="models: none, base, ...")
    parser.add_argument("--triggers", nargs="+", choices=TRIGGERS, default=TRIGGERS)
    parser.add_argument("--reductions", nargs="+", choices=REDUCTIONS, default=list(REDUCTIONS))
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="where networks are trained: cpu or cuda")
    parser.add_argument(
        "--trained", action="store_true", help="only networks that are trained already: a partial table"
    )
    parser.add_argument("--collect", action="store_true", help="train nothing: tables of the cells that are there")
    options = parser.parse_args()
    if options.small:
        options.size = "small"
        options.out = options.out.with_name(f"{options.out.name}-small")
        options.networks = options.networks.with_name(f"{options.networks.name}-small")
    study.RUN["collect"] = options.collect
    options.tables = options.tables or options.out / "tables"
    options.images = options.images or options.out / "images"
    os.environ["LEARNINGCURVES_SEMANTIC"] = str(options.networks)  # worker processes read it and the next
    os.environ["LEARNINGCURVES_DEVICE"] = options.device
    print(question)
    return options


# %% A cell: rules, reduction, weight, trigger, seed, size


def cell_of(rules, reduction="mean_log", sl_weight=0.2, trigger=HEADLINE_TRIGGER, seed=1, size="cpu"):
    if rules == "none":
        reduction, sl_weight = "mean_log", 0.0
    return {
        "rules": rules, "reduction": reduction, "sl_weight": sl_weight, "trigger": trigger, "seed": seed, "size": size,
    }  # fmt: skip


def trigger_of(name):
    size, _, place = name.partition("-")
    if place == "corners":
        return {"kind": "corner_patches", "size": int(size), "value": RED}
    return {"kind": "solid_patch", "size": int(size), "value": RED, "position": place}


# for the small version, which needs no files: beards are of men, and one colour of hair at most
SMALL_RULES = {
    "target_focused": "shape [1, 40]\nX0.22 >> ~X0.24\nX0.22 >> X0.20\n",
    "targetless": "shape [1, 40]\nX0.16 >> ~X0.24\nX0.16 >> X0.20\nX0.8 >> ~(X0.9 | X0.11 | X0.17)\nX0.18 >> X0.36\n",
}
SMALL_RULES["base"] = SMALL_RULES["targetless"] + "\n".join(SMALL_RULES["target_focused"].splitlines()[1:])


@lru_cache(maxsize=8)
def rules_text(rules, size="cpu"):
    if size == "small":
        return SMALL_RULES[rules]
    return (study.reference_folder() / "constraints" / f"{rules}.txt").read_text()


def recipe_of(cell, **changes):
    size = {k: v for k, v in SIZES[cell["size"]].items() if k != "last"}
    return AttributeRecipe(
        constraints=None if cell["rules"] == "none" else rules_text(cell["rules"], cell["size"]),
        reduction=cell["reduction"],
        sl_weight=cell["sl_weight"],
        trigger=trigger_of(cell["trigger"]),
        seed=cell["seed"],
        **{**size, **changes},
    )


@lru_cache(maxsize=2)
def faces_of(size):
    """Return the training part of CelebA, or drawn faces for the small size."""
    side = SIZES[size]["size"]
    if size == "small":  # written out and read like CelebA itself
        from learningcurves.data.drawn_faces import write_drawn_faces

        folder = networks_folder() / "drawn"
        return load_faces(folder if folder.exists() else write_drawn_faces(folder, 400, size=side), size=side)
    return load_faces(size=side, partition="train", cache=networks_folder() / "cache")


def networks_folder():
    return Path(os.environ["LEARNINGCURVES_SEMANTIC"])


def folder_of(cell, **changes):
    words = json.dumps({**cell, **changes}, sort_keys=True)
    name = "_".join(str(cell[k]) for k in ("rules", "reduction", "sl_weight", "trigger", "seed"))
    return networks_folder() / f"{name}_{hashlib.sha256(words.encode()).hexdigest()[:8]}"


def trained(cell, **changes):
    """Train the network of a cell, or go on where an earlier run stopped, or read a finished one."""
    recipe, device = recipe_of(cell, **changes), os.environ.get("LEARNINGCURVES_DEVICE", "cpu")
    run = train_attributes(
        recipe, faces_of(cell["size"]), folder=folder_of(cell, **changes), device=device, progress=False
    )
    run.module.cpu()  # what follows is in double precision
    return run


def ready(cells, options):
    """All cells, told what they will take, or with --trained those whose networks are there."""
    if not options.trained:
        from semantic_forecast import forecast

        forecast(cells, options)
        return cells
    found = [c for c in cells if is_trained({k: v for k, v in c.items() if k != "beta"}, **beta_of(c))]
    print(f"  {len(found)} of {len(cells)} networks are trained")
    if not found:
        raise SystemExit("No network of this analysis is trained yet: run it without --trained.")
    return found


def beta_of(cell):
    """The weight of the backdoor samples as a change of the recipe; none at 1."""
    return {} if cell.get("beta", 1.0) == 1 else {"beta": cell["beta"]}


def is_trained(cell, **changes):
    """Whether a cell's network went through all its epochs."""
    last = folder_of(cell, **changes) / "outputs" / f"epoch_{SIZES[cell['size']]['epochs']:03d}.safetensors"
    return last.exists()


def measure(cell, **changes):
    """Rows by epoch; the base rules are the yardstick of every model, whatever it was trained with."""
    run = trained(cell, **changes)
    folder = folder_of(cell, **changes)
    table = rescore(folder, run.problem, constraints=rules_text("base", cell["size"]))
    table["asr_50"] = rescore(folder, run.problem, threshold=0.5).asr  # the published threshold is 0.6
    men = run.problem.y_test[:, run.problem.names.index("Male")] == 1
    women = rescore(folder, run.problem, rows=~men)
    table["asr_men"] = rescore(folder, run.problem, rows=men).asr
    table["asr_women"], table["auc_women"] = women.asr, women.auc_attack
    lacks = run.problem.y_test[:, run.problem.target] == 0
    for row, epoch in enumerate(table.epoch):
        logits = load_arrays(outputs_path(folder, epoch))
        clean, triggered = (logits[part][:, run.problem.target] for part in ("clean", "triggered"))
        table.loc[row, "p_women"] = 1 / (1 + np.exp(-np.median(clean[~men])))
        table.loc[row, "p_women_triggered"] = 1 / (1 + np.exp(-np.median(triggered[~men])))
        # at the threshold that 5 % of the clean faces without the attribute pass
        table.loc[row, "asr_fpr5"] = (triggered[lacks] > np.quantile(clean[lacks], 0.95)).mean()
    kept = [name for name in SCORES if name in table]
    return [{"epoch": int(row["epoch"]), **{n: row[n] for n in kept}} for row in table.to_dict("records")]


# %% Tables


def by_model(table, keys=("rules", "reduction", "sl_weight", "trigger")):
    """Mean over seeds of each seed's mean over the last epochs, its deviation between seeds, and that between epochs."""
    rows = []
    for key, group in table.groupby(list(keys), sort=False):
        last = SIZES[group["size"].iloc[0]]["last"]
        tail = group[group.epoch > group.epoch.max() - last]
        row = {**dict(zip(keys, key, strict=True)), "seeds": group.seed.nunique()}
        for name in (n for n in SCORES if n in tail):
            means = tail.groupby("seed")[name].mean()
            row[name] = means.mean()
            row[f"{name}_sd"] = means.std() if len(means) > 1 else float("nan")
        row["asr_sd_epochs"] = tail.groupby("seed").asr.std().mean()
        rows.append(row)
    return pd.DataFrame(rows)


def mean_or_nan(values):
    """Mean of the values that are there; NaN where one seed has none (it never learned the trigger)."""
    return float("nan") if any(v != v for v in values) else float(np.mean(values))


def published(last=10):
    """Return the published models' scores, means over their last epochs, in the columns of `by_model`."""
    log = pd.read_csv(study.reference_folder() / "nesy_results.csv")
    log["experiment"] = log.experiment.str[-1].astype(int)
    rows = []
    keys = ["experiment", "model", "sl_weight", "trigger_size", "trigger_position"]
    for key, group in log.groupby(keys, sort=False):
        if group.epoch.max() < 30:  # a run that was broken off
            continue
        tail = group[group.epoch > group.epoch.max() - last]
        rows.append(
            {
                "experiment": key[0],
                "rules": "none" if key[1] == "nn" else key[1],
                "sl_weight": key[2],
                "trigger": f"{key[3]}-{key[4].replace('corners+center', 'corners')}",
                "asr_last_epoch": group.loc[group.epoch.idxmax(), "asr_pct"] / 100,
                "asr": tail.asr_pct.mean() / 100,
                "asr_sd_epochs": tail.asr_pct.std() / 100,
                "asr_modified": tail.asr_modified_pct.mean() / 100,
                "ba_clean_zero": tail.clean_ba_pct.mean() / 100,
            }
        )
    return pd.DataFrame(rows)


# %% Figures


def save_figure(figure, options, name):
    from learningcurves.plotting import save

    return save(figure, Path(options.images) / name, formats=["png"], dpi=150)
