"""What the two network analyses share: images and triggers, networks, training, cells.

Sizes are those of two shared CPU cores: a narrow network and few images. A larger machine changes `SIZES` alone.
"""

import os
from functools import lru_cache, partial
from pathlib import Path

import study

import learningcurves as lc
from learningcurves.networks import ResNet18, SmallCNN, train, train_curve

FRACTIONS = (0.05, 0.15)
SEEDS = (1, 2, 3)
RECORD = (1, 3, 10)
FOLDER = "LEARNINGCURVES_NETWORK_STUDY"  # environment variable: where networks are kept, also for worker processes
CIFAR_CLASSES = ("airplane", "frog", "truck")  # all complete in the shared files
# images, test images, width, epochs, trigger's side, weights beta, lambda
SIZES = {
    "mnist": {"n": 1200, "n_test": 500, "width": 8, "epochs": 10, "patch": 3, "reg": (0.3, 3.0, 30.0)},
    "cifar10": {"n": 750, "n_test": 450, "width": 8, "epochs": 10, "patch": 8, "reg": (3.0, 30.0)},
    "digits": {"n": 600, "n_test": 300, "width": 4, "epochs": 6, "patch": 2, "reg": (0.3, 10.0)},
}
BETA = {"mnist": (0.1, 0.3, 1.0), "cifar10": (1.0,), "digits": (0.3, 1.0)}  # and 0


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
        "batch_size": 32,
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
