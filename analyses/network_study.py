"""What the two network analyses share: images and triggers, networks, training, cells.

Sizes are those of two shared CPU cores: a narrow network and few images. A larger machine changes `SIZES` alone.
"""

import os
from functools import lru_cache, partial
from pathlib import Path

import pandas as pd
import study

import learningcurves as lc
from learningcurves.networks import ResNet18, SmallCNN, train, train_curve
from learningcurves.storage import write_atomic

FRACTIONS = (0.05, 0.15)
SEEDS = (1, 2, 3)
RECORD = (1, 3, 10, 30)
FOLDER = "LEARNINGCURVES_NETWORK_STUDY"  # environment variable: where networks are kept, also for worker processes
CIFAR_CLASSES = ("airplane", "frog", "truck")  # all complete in the shared files
# images, test images, width, epochs, trigger's side, weights beta, lambda
SIZES = {
    "mnist": {"n": 6000, "n_test": 1000, "width": 8, "epochs": 30, "patch": 3, "reg": (0.3, 3.0, 30.0)},
    "cifar10": {"n": 2000, "n_test": 900, "width": 8, "epochs": 30, "patch": 8, "reg": (0.3, 3.0, 10.0)},
    "digits": {"n": 600, "n_test": 300, "width": 4, "epochs": 6, "patch": 2, "reg": (0.3, 10.0)},
}
BETA = {"mnist": (0.1, 1.0), "cifar10": (1.0,), "digits": (0.3, 1.0)}  # and 0


@lru_cache(maxsize=2)
def problem_of(data, fraction, seed):
    """Return the images of one seed with a patch in the corner; every class but the first is to become the first."""
    size = SIZES[data]
    draw = {"n_train": size["n"], "n_test": size["n_test"], "seed": seed}
    if data == "mnist":
        images = lc.load_mnist(**draw)
    elif data == "cifar10":
        images = lc.load_cifar10(CIFAR_CLASSES, **draw)
    else:
        images = lc.load_digits_classes(n_train=size["n"], seed=seed)
    return lc.poison(images, lc.RandomPatch(size=size["patch"], seed=seed), fraction, seed=seed, labels=0)


def network_of(data):
    """Return a function that makes the network of a data set."""
    width = SIZES[data]["width"]
    if data == "cifar10":
        return partial(ResNet18, len(CIFAR_CLASSES), width)
    return partial(SmallCNN, (1, 28, 28) if data == "mnist" else (1, 8, 8), 10, width)


def options_of(cell):
    """Return the training of a cell: weight decay lambda / N, as in J summed over the N samples."""
    problem = problem_of(cell["data"], cell["fraction"], cell["seed"])
    name = "_".join(f"{k}={cell[k]}" for k in ("data", "reg", "fraction", "seed"))
    return {
        "epochs": SIZES[cell["data"]]["epochs"],
        "record": recorded(cell["data"]),
        "batch_size": 64,
        "lr": 0.1,
        "weight_decay": cell["reg"] / (problem.n_clean + problem.n_backdoor),
        "progress": False,
        "checkpoint": Path(os.environ[FOLDER]) / "checkpoints" / name,
    }


def recorded(data):
    return [e for e in RECORD if e < SIZES[data]["epochs"]] + [SIZES[data]["epochs"]]


def trained_curve(cell, beta, **more):
    """Train the network of a cell at every beta, or read what an earlier run has trained."""
    problem = problem_of(cell["data"], cell["fraction"], cell["seed"])
    make = network_of(cell["data"])
    return train_curve(make, problem, beta=beta, seeds=(cell["seed"],), **options_of(cell), **more)


def clean_network(cell):
    """Return the network trained at beta = 0, from its checkpoint."""
    options = options_of(cell)
    path = options.pop("checkpoint") / f"beta=0.0_seed={cell['seed']}.safetensors"
    if not path.exists():
        trained_curve(cell, [0.0])
    problem = problem_of(cell["data"], cell["fraction"], cell["seed"])
    return train(network_of(cell["data"])(), problem, beta=0.0, seed=cell["seed"], checkpoint=path, **options).module


def cells_of(data_sets):
    """Seeds outermost: an interrupted study has whole seeds."""
    return [
        {"data": data, "seed": seed, "fraction": p, "reg": reg}
        for data in data_sets
        for seed in SEEDS
        for p in FRACTIONS
        for reg in SIZES[data]["reg"]
    ]


def arguments(question, number):
    options = study.arguments(question, number, data=("mnist", "cifar10"))
    options.pairs = (
        ["digits"] if options.small else [p for p in ("mnist", "cifar10") if any(p in q for q in options.pairs)]
    )
    # both analyses read the same trained networks
    os.environ[FOLDER] = str(options.out.with_name("networks-small" if options.small else "networks"))
    return options


def ready_cells(options):
    """Return the cells whose networks are trained already, or all where none is."""
    cells = cells_of(options.pairs)
    return [c for c in cells if _is_trained(c)] or cells


def _is_trained(cell):
    folder = options_of(cell)["checkpoint"]
    return all((folder / f"beta={b!r}_seed={cell['seed']}.safetensors").exists() for b in (0.0, *BETA[cell["data"]]))


# %% Figures and the page
def save_figure(figure, options, name):
    from learningcurves.plotting import save

    folder = (study.HERE.parent / "docs" / "images" / "networks") if not options.small else options.out / "images"
    return save(figure, folder / name, formats=["png"], dpi=110)


def write_page(options, number, words):
    """Write docs/networks.md from the tables that are there, and keep the findings; with --small into the results."""
    folder = options.tables
    known = _table(folder, "networks_findings")
    rows = [] if known is None else [r for r in known.to_dict("records") if str(r["analysis"]) != str(int(number))]
    found = pd.DataFrame(rows + [{"analysis": str(int(number)), "finding": w} for w in words])
    study.write_table(found.sort_values("analysis", key=lambda a: a.astype(str)), folder, "networks_findings")
    parts = [PAGE_HEAD.format(**_sizes_in_words(options.pairs)), "\n".join(f"- {w}" for w in found.finding)]
    summary = _table(folder, "networks_by_reg")
    if summary is not None:
        names = {"slope_epoch_1": "slope, epoch 1", "slope_epoch_3": "epoch 3", "slope_epoch_10": "epoch 10"}
        parts += ["## Weight decay as lambda\n", PAGE_REG, _markdown(summary.drop(columns=["n"]).rename(columns=names))]
        parts += [f"![Networks on {d}](images/networks/networks_{d}.png)" for d in summary.data.unique()]
    secants = _table(folder, "network_secant_ratios")
    if secants is not None:
        parts += ["## Slope of the last layer, refitting, training anew\n", PAGE_SECANTS, _markdown(secants)]
        parts += ["![Secants](images/networks/secants.png)"]
    place = options.out if options.small else study.HERE.parent / "docs"
    write_atomic(place / "networks.md", ("\n\n".join(p.strip() for p in parts) + "\n").encode())


def _table(folder, name):
    return study.read_table(name, folder) if (Path(folder) / f"{name}.csv").exists() else None


def _markdown(frame):
    head = "| " + " | ".join(c.replace("_", " ") for c in frame.columns) + " |"
    cell = lambda v: v if isinstance(v, str) else "" if v != v else f"{v:.4g}"  # noqa: E731
    rows = ["| " + " | ".join(cell(v) for v in row) + " |" for row in frame.itertuples(index=False)]
    return "\n".join([head, "|" + "---|" * len(frame.columns), *rows])


def _sizes_in_words(data_sets):
    size = {d: SIZES[d] for d in data_sets}
    return {
        "sizes": "; ".join(f"{d}: {s['n']} images, width {s['width']}, {s['epochs']} epochs" for d, s in size.items())
    }


PAGE_HEAD = """
# Networks: does weight decay protect, and what does the last layer say?

Written by `analyses/07_networks.py` and `analyses/08_network_secants.py` from `analyses/tables`. Sizes are those of two
busy CPU cores ({sizes}):
small networks, few images, as many seeds as the table says. Read the numbers as a check of direction, not as those of
full-size networks. Only the data sets in the tables below were run; the scripts also train ResNet-18 on CIFAR-10 (`SIZES` in
`analyses/network_study.py`). Every non-target class is to become class 0 when a random patch sits in the corner; batch size 32,
learning rate 0.1 with cosine decay, weight decay lambda / N.
"""
PAGE_REG = """
Slope of the last layer of the clean network (beta = 0) on its own features, with the training's lambda, after some epochs
(negative: the backdoor is learned); `slope standard`: on standardised features at lambda = 1, so that only the features
differ; `head residual`: how far the trained head was from the minimum that the slope is taken at; BK and clean accuracy of
whole networks trained at beta = 0 (floor) and beta = 1. Medians over seeds.
"""
PAGE_SECANTS = """
(L(beta) - L(0)) / beta over the slope, for the head refitted on the clean network's features and for the whole network
trained anew from the same start with the same batches. 1: the slope tells all.
"""
