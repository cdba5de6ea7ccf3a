"""What the analyses of attacks and defences share: images, attacks by name, networks, training, tables, pictures.

Sizes are those of two shared CPU cores. `SIZES` alone says how large a study is; the sets named "full" are the plan for
a machine with a GPU (`--device cuda`).
"""

import argparse
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import study
import torch

import learningcurves as lc
from learningcurves.defences.metrics import attack_scores
from learningcurves.networks import FlipAndShift, ResNet18, SmallCNN, load_weights, save_weights, train
from learningcurves.networks.runtime import private_random_state
from learningcurves.poisoning.triggers import Blend, Checkerboard, Sinusoid, badnets_patch
from learningcurves.streams import integer

TARGET = 0
FOLDER = "LEARNINGCURVES_ATTACK_STUDY"  # environment variable: where networks are kept
DEVICE = "LEARNINGCURVES_DEVICE"
# images, test images, classes, network's width, epochs, batch, counts of poisons, seeds; shift: pixels of the random
# shifts, with flips, in training (none where it is absent)
SIZES = {
    "digits": {"n": 900, "n_test": None, "width": 8, "epochs": 6, "batch": 32, "seeds": (1,), "counts": (5, 40)},
    "mnist-small": {
        "n": 3_000, "n_test": 2_000, "width": 12, "epochs": 5, "batch": 32, "seeds": (1,), "counts": (10, 40, 160, 500),
    },
    "mnist": {
        "n": 10_000, "n_test": 5_000, "width": 12, "epochs": 4, "batch": 64, "seeds": (1, 2, 3),
        "counts": (5, 10, 20, 40, 80, 160, 320, 800, 2000),
    },
    "mnist-wide": {  # neurons to spare, for what defences cut and for perturbations
        "n": 10_000, "n_test": 5_000, "width": 32, "epochs": 8, "batch": 64, "seeds": (1, 2),
        "counts": (5, 10, 20, 40, 80, 160, 320, 800, 2000),
    },
    "cifar10": {  # the five classes that the shared files hold completely
        "n": 5_000, "n_test": 2_000, "width": 8, "epochs": 25, "batch": 64, "shift": 4, "seeds": (1, 2, 3),
        "classes": ("airplane", "bird", "dog", "frog", "truck"), "counts": (20, 80, 200, 800),
    },
    "cifar10-ten": {  # all ten classes, in the proportion of the shared files
        "n": 10_000, "n_test": 3_000, "width": 64, "epochs": 50, "batch": 128, "shift": 4, "seeds": (1, 2, 3),
        "classes": tuple(range(10)), "counts": (5, 10, 20, 40, 80, 160, 320, 800),
    },
    "cifar10-full": {  # 25,000 images of those classes, the published network and epochs
        "n": None, "n_test": None, "width": 64, "epochs": 50, "batch": 128, "shift": 4, "seeds": (1, 2, 3),
        "classes": ("airplane", "bird", "dog", "frog", "truck"), "counts": (5, 10, 20, 40, 80, 160, 320, 800, 2000),
    },
}  # fmt: skip
ATTACKS = ("badnets", "blend", "sinusoid", "clean-label")


@lru_cache(maxsize=2)
def images(data, seed):
    """Return the images of one seed."""
    size = SIZES[data]
    if data == "digits":
        return lc.load_digits_classes(n_train=size["n"], seed=seed)
    draw = {"n_train": size["n"], "n_test": size["n_test"], "seed": seed}
    return lc.load_mnist(**draw) if data.startswith("mnist") else lc.load_cifar10(size["classes"], **draw)


def trigger_of(attack, data=""):
    """Return an attack's trigger.

    On the small CIFAR-10 set a patch of 8 x 8 stands for the one of 3 x 3 in a corner, which a network does not learn there
    with random shifts and flips (`14_cifar_trials.py`).
    """
    if data == "cifar10" and attack == "badnets":
        return lc.RandomPatch(size=8, seed=1)
    return {
        "badnets": badnets_patch(),
        "blend": Blend(alpha=0.2),
        "sinusoid": Sinusoid(),
        "clean-label": Checkerboard(),
        "clean-label PGD": Checkerboard(),
    }[attack]


def problem_of(data, attack, count, seed, perturb=None):
    """Return an attack on the first class with so many poisons; the sets of one seed nest."""
    source = images(data, seed)
    if attack.startswith("clean-label"):
        return lc.poison_clean_label(source, trigger_of(attack, data), TARGET, count=count, seed=seed, perturb=perturb)
    return lc.poison(source, trigger_of(attack, data), count=count, seed=seed, labels=TARGET)


def counts_of(data, attack, seed=1):
    """Return the counts that an attack allows: a clean-label one needs one clean sample of the class left."""
    source = images(data, seed)
    most = int((source.y_train == TARGET).sum()) - 1 if attack.startswith("clean-label") else len(source.y_train) // 2
    return [k for k in SIZES[data]["counts"] if k <= most]


def new_network(data, seed):
    """Return an untrained network; one seed, one start."""
    size, shape = SIZES[data], images(data, seed).image_shape
    with private_random_state(seed=integer(seed, use="initial weights")):
        n_classes = len(images(data, seed).classes)
        if data.startswith("cifar10"):
            network = ResNet18(n_classes, size["width"])
        else:
            network = SmallCNN(shape, n_classes, size["width"])
    return network.to(memory_format=torch.channels_last)  # several times faster on a CPU


def device():
    """Return where networks are trained and defended."""
    return os.environ.get(DEVICE, "cpu")


def training(data, shift=None):
    """Return how networks are trained; `shift` in place of the data set's own."""
    shift = SIZES[data].get("shift", 0) if shift is None else shift
    return study.training(SIZES[data], augment=FlipAndShift(pixels=shift) if shift else None, device=device())


def trained(data, seed, problem, name, shift=None):
    """Return the network trained on a problem, from its file where an earlier run has trained it."""
    path = Path(os.environ[FOLDER]) / f"{data}_{name}_seed={seed}.safetensors"
    network = new_network(data, seed)
    if path.exists():
        return load_weights(network, path).eval()
    state = path.with_suffix(".state")  # where an interrupted training goes on
    module = train(network, problem, beta=1.0, seed=seed, checkpoint=state, **training(data, shift)).module.cpu()
    save_weights(module, path)
    state.unlink(missing_ok=True)
    return module


def clean_network(data, seed):
    """Return the network of a seed that was trained on the clean images alone."""
    return trained(data, seed, problem_of(data, "badnets", 0, seed), "clean")


def backdoored(data, attack, count, seed, problem=None):
    """Return the network trained on an attack."""
    problem = problem_of(data, attack, count, seed) if problem is None else problem
    return trained(data, seed, problem, f"{attack.replace(' ', '-')}_{count}")


def rates(module, problem):
    """Return hits and number of every rate, for tables that add over seeds."""
    return hits(attack_scores(module, problem))


def hits(scores):
    return {f"{name}_{what}": int(value) for name, rate in scores.rates.items()
            for what, value in (("hits", rate.hit.sum()), ("n", rate.n))}  # fmt: skip


def arguments(question, number, data=("mnist",)):
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--small", action="store_true", help="built-in digits, a minute, no data needed")
    parser.add_argument("--data", nargs="+", default=list(data), choices=list(SIZES))
    parser.add_argument("--out", type=Path, default=Path(f"results/{number}"), help="folder of the cells")
    parser.add_argument("--tables", type=Path, default=None, help="folder of the tables (default: OUT/tables)")
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--collect", action="store_true", help="measure nothing: tables of the cells that are there")
    parser.add_argument("--device", default="cpu", help="where networks are trained")
    options = parser.parse_args()
    if options.small:
        options.data, options.out = ["digits"], options.out.with_name(options.out.name + "-small")
    options.tables = options.tables or options.out / "tables"
    options.images = options.out / "images" if options.small else study.HERE.parent / "docs" / "images" / "attacks"
    study.RUN["collect"] = options.collect
    folder = options.out.with_name("attacks-small" if options.small else "attacks")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER], os.environ[DEVICE] = str(folder), options.device
    print(question)
    return options


def finished(table):
    """Return the rows that were measured; the end of the script where there is none yet."""
    if not len(table):
        raise SystemExit("  no cell has been measured yet")
    return table[table.status == "ok"]


def save_figure(figure, options, name):
    from learningcurves.plotting import save

    return save(figure, options.images / name, formats=["png"], dpi=110)


def pooled(group, name):
    """Return value, low, high and n of a rate over seeds: hits and numbers added, Wilson's interval.

    It is the interval of these networks' rate. How networks of other seeds would differ is seen in the points.
    """
    from learningcurves.defences.rates import wilson

    hits, n = int(group[f"{name}_hits"].sum()), int(group[f"{name}_n"].sum())
    low, high = wilson(hits, n)
    return {name: hits / n, f"{name}_low": low, f"{name}_high": high, f"{name}_n": n}


def least_and_most(group):
    """Return the ASR of the single networks of a group that is least, and most."""
    asr = group.asr_hits / group.asr_n
    return {"asr_least": asr.min(), "asr_most": asr.max()}


def draw_rate(ax, x, group, name, look):
    """Draw a rate over `x` with its interval (columns of `pooled`); return its handle."""
    spread = [group[name] - group[f"{name}_low"], group[f"{name}_high"] - group[name]]
    return ax.errorbar(x, group[name], np.maximum(spread, 0), **look)
