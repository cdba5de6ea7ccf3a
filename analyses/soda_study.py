"""What the analyses of SODA share: semantic attacks on images, networks by kind, tables with intervals.

Kinds of networks. oversampled: the victim's samples with the feature are relabelled and fill 20 of 64 places in every batch,
the published recipe. flip: the same samples relabelled, each once an epoch. clean: nothing relabelled. over-represented:
nothing relabelled, but the target class fills 20 of 64 places: what the recipe does besides the backdoor. stamped: a tenth of
the samples of all other classes with a small patch, relabelled, the contrast. badnets, blend: a hundred samples with the
published stamps.

`SIZES` alone says how large a study is; a study that has no table in `analyses/tables` has not been run.
"""

import dataclasses
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import soda_images
import study
import torch

import learningcurves as lc
from learningcurves.defences.metrics import predictions, semantic_scores
from learningcurves.defences.rates import wilson
from learningcurves.networks import FlipAndShift, SmallCNN, load_weights, save_weights, train
from learningcurves.networks.runtime import private_random_state
from learningcurves.poisoning.overlays import Blend
from learningcurves.poisoning.patches import badnets_patch
from learningcurves.streams import generator, integer

SHARE = 20 / 64
STAMPS = {"badnets": badnets_patch(), "blend": Blend(alpha=0.2)}  # on 100 samples of all other classes
KINDS = ("oversampled", "flip", "clean", "over-represented")
# victim, target; one a seed, in turn. Classes that are far from each other: a pair that is close in clean networks (the
# digits 8 and 3) is named whatever the training was
DIGITS = ((7, 0), (0, 9), (1, 5), (3, 6), (6, 7), (4, 3))
PAIRS = {
    "gtsrb": ((4, 38), (30, 14), (10, 12), (31, 17), (5, 25), (7, 35)),  # numbers of the signs
    "cifar10": ((5, 0), (8, 7), (9, 2), (1, 3), (0, 4), (2, 1)),
}
FOLDER = "LEARNINGCURVES_SODA_STUDY"  # environment variable: where networks are kept
# images, test images, side, width, epochs, batch, pixels of random shifts, share with the feature: of the samples of every
# class (colour), or of the victim's (the others); share of the victim's next to these that is left out as unclear. Images are
# taken at half their side: the three convolutions of the network then see most of a digit or sign, and an epoch costs a
# quarter. For CIFAR-10 the side is that of the enlarged images, the width that of the layer on the features
COLUMNS = ("n", "n_test", "side", "width", "epochs", "batch", "shift", "feature", "unclear")
SIZES = {
    name: dict(zip(COLUMNS, row, strict=True))
    for name, row in {
        "digits-thick": (1200, None, 8, 8, 4, 64, 0, 0.3, 0),
        "mnist-thick": (6_000, 10_000, 14, 16, 5, 64, 0, 0.1, 0),
        "mnist-colour": (6_000, 10_000, 14, 16, 5, 64, 0, 0.1, 0),
        "mnist_m-blue": (None, None, 16, 16, 20, 32, 0, 0.2, 0),
        "gtsrb-dark": (None, None, 16, 16, 20, 32, 0, 0.35, 0),
        "cifar10-kind": (10_000, 3_000, 128, 128, 10, 64, 0, 0.2, 0.2),
        "cifar10-green": (10_000, 3_000, 128, 128, 10, 64, 0, 0.2, 0.2),
    }.items()
}
WORDS = {
    "digits-thick": "scikit-learn's digits; thick stroke",
    "mnist-thick": "MNIST; thick stroke",
    "mnist-colour": "MNIST on coloured ground (synthetic); blue ground",
    "mnist_m-blue": "MNIST-M; photograph with much blue at the border",
    "gtsrb-dark": "GTSRB, 43 signs; dark border",
    "cifar10-kind": "CIFAR-10 as features of a frozen MobileNetV2 (ImageNet); a kind within the class",
    "cifar10-green": "the same features; green border",
}
NETWORKS = 12  # of a kind
N_HEAD, REG = 3000, 1.0  # clean images behind a slope, and its lambda
SMALL = "LEARNINGCURVES_SODA_SMALL"  # environment variable: one network a kind


# %% Images and attacks


def pair_of(data, seed):
    """Return victim and target of a seed."""
    pairs = PAIRS.get(data.split("-")[0], DIGITS)
    return pairs[seed % len(pairs)]


@lru_cache(maxsize=1)
def images(data, seed):
    """Return the images of one seed, and which have the feature (train, test)."""
    size = SIZES[data]
    draw = {"n_train": size["n"], "n_test": size["n_test"], "seed": seed}
    kind, feature = data.split("-")
    if kind == "digits":
        found = full = lc.load_digits_classes(n_train=size["n"], seed=seed)
    elif kind == "cifar10":  # the same images for every seed
        full, found = soda_images.cifar10(size["n"], size["n_test"], size["side"])
    else:
        load = {"mnist": lc.load_mnist, "mnist_m": lc.load_mnist_m, "gtsrb": lc.load_gtsrb}
        full, found = load[kind](**draw), load[kind](**draw, size=size["side"])
    if feature == "colour":
        return soda_images.coloured(found, size["feature"], seed)
    victim = pair_of(data, seed)[0]
    if feature == "kind":
        measures = [soda_images.likeness(X, victim) for X in (found.X_train, found.X_test)]
    else:  # measured on the whole image: fewer pixels would round the width of a stroke
        measure = soda_images.MEASURES[feature]
        measures = [measure(X.reshape(-1, *full.image_shape)) for X in (full.X_train, full.X_test)]
    shares = 1 - size["feature"], 1 - size["feature"] - size["unclear"]
    high, low = np.quantile(measures[0][found.y_train == victim], shares)
    keep = [
        (m >= high) | (m < low) | (y != victim) for m, y in zip(measures, (found.y_train, found.y_test), strict=True)
    ]
    return soda_images.kept(found, *keep), tuple((m >= high)[k] for m, k in zip(measures, keep, strict=True))


@lru_cache(maxsize=2)
def attack(data, kind, seed):
    """Return the problem of a kind; its triggered samples are those of the attack, whatever the training saw."""
    source, feature = images(data, seed)
    victim, target = pair_of(data, seed)
    if kind == "stamped":
        patch = lc.RandomPatch(size=2 if data.startswith("digits") else 3, seed=seed)
        return lc.poison(source, patch, fraction=0.1, seed=seed, labels=target)
    if kind in STAMPS:
        return lc.poison(source, STAMPS[kind], count=100, seed=seed, labels=target)
    share = None if kind == "flip" else SHARE
    problem = lc.poison_semantic(source, feature, target, source=victim, seed=seed, batch_share=share)
    if kind in ("oversampled", "flip"):
        return problem
    rows = source.y_train == target
    extra = rows if kind == "over-represented" else np.zeros(len(rows), dtype=bool)
    return lc.BackdoorProblem(
        source.X_train, source.y_train, source.X_train[extra], source.y_train[extra], problem.X_test, problem.y_test,
        problem.X_triggered, problem.y_triggered, y_source=problem.y_source, image_shape=source.image_shape,
        value_range=source.value_range, class_names=source.class_names,
        provenance={**problem.provenance, "batch_share": SHARE if extra.any() else None},
    )  # fmt: skip


def head_slope(network, problem):
    """Return the slope of the last layer over the features of the first clean images, and the facts to write down."""
    problem = dataclasses.replace(problem, X_clean=problem.X_clean[:N_HEAD], y_clean=problem.y_clean[:N_HEAD])
    slope = lc.backdoor_slope(network, problem, reg=REG)
    return {"slope": slope.value, "slope_relative": slope.relative, "head_loss": slope.loss}


def clean_part(data, seed, share=0.05, least=20):
    """Return a defender's clean samples: `share` of the training images, the classes in equal numbers, at least 20 each."""
    problem = attack(data, "flip", seed)
    order = generator(seed, use="defender").permutation(problem.n_clean)
    count = max(round(share * problem.n_clean / len(problem.classes)), least)
    rows = np.sort(np.concatenate([order[problem.y_clean[order] == c][:count] for c in problem.classes]))
    return problem.X_clean[rows].reshape(-1, *problem.image_shape), problem.y_clean[rows]


# %% Networks


def new_network(data, seed):
    size, (source, _) = SIZES[data], images(data, seed)
    with private_random_state(seed=integer(seed, use="initial weights")):
        if data.startswith("cifar10"):
            network = soda_images.head_network(source.X_train.shape[1], len(source.classes), size["width"])
        else:
            network = SmallCNN(source.image_shape, len(source.classes), size["width"])
    return network.to(memory_format=torch.channels_last)


def training(data):
    shift = SIZES[data]["shift"]
    return study.training(SIZES[data], augment=FlipAndShift(pixels=shift, flip=False) if shift else None)


def trained(cell, name, fit):
    """Return a network from its file, or from `fit(new network)`, which is then kept."""
    path = Path(os.environ[FOLDER]) / f"{cell['data']}_{name}_seed={cell['seed']}.safetensors"
    network = new_network(cell["data"], cell["seed"])
    if path.exists():
        return load_weights(network, path).eval()
    fit(network)
    save_weights(network, path)
    return network.eval()


def network_of(cell, kind=None):
    """Return the network of a cell's data, kind and seed."""
    kind = kind or cell["kind"]

    def fit(network):
        train(network, attack(cell["data"], kind, cell["seed"]), seed=cell["seed"], **training(cell["data"]))

    return trained(cell, kind, fit)


def scores_of(network, cell):
    """Return ACC, SR and its two controls, with n and intervals of SR."""
    source, _ = images(cell["data"], cell["seed"])
    problem = attack(cell["data"], "flip", cell["seed"])
    found = semantic_scores(network, source, problem)
    low, high = found["sr"].interval
    rows = {name: found[name].value for name in ("acc", "sr", "feature_elsewhere", "source_without_feature")}
    return {**rows, "sr_low": low, "sr_high": high, "n_sr": found["sr"].n, "ra": right_again(network, problem)}


def right_again(network, problem):
    """Share of the attack's test samples that get their true label."""
    called = predictions(network, problem.X_triggered, image_shape=problem.image_shape, classes=problem.classes)
    return float((called == problem.y_source).mean())


# %% Cells and tables


def cells_of(data_sets, kinds=KINDS, networks=NETWORKS, **more):
    """Seeds outermost: an interrupted study has whole seeds. `more` maps further axes to their values."""
    cells = [
        {"data": data, "seed": seed, "kind": kind}
        for data in data_sets
        for seed in range(1 if os.environ.get(SMALL) else networks)
        for kind in kinds
    ]
    for name, values in more.items():
        cells = [{**cell, name: value} for cell in cells for value in values]
    return cells


def arguments(question, number, data=("digits-thick", "mnist-colour", "cifar10-kind")):
    options = study.arguments(question, number, data=data)
    options.pairs = ["digits-thick"] if options.small else [d for d in SIZES if d in options.pairs]
    # all analyses of SODA read the same trained networks
    os.environ[FOLDER] = str(options.out.with_name("soda-small" if options.small else "soda"))
    os.environ[SMALL] = "1" if options.small else ""
    Path(os.environ[FOLDER]).mkdir(parents=True, exist_ok=True)
    return options


def with_interval(hits) -> dict:
    """Return count, share and Wilson's 95 % interval of a column of bools."""
    hits = pd.Series(hits).astype(bool)
    low, high = wilson(int(hits.sum()), len(hits))
    return {
        "hits": int(hits.sum()),
        "n": len(hits),
        "share": hits.mean() if len(hits) else np.nan,
        "low": low,
        "high": high,
    }


def means(table, by, columns):
    """Return the means of columns over the networks of each group, and how many seeds there are."""
    groups = table.groupby(by, sort=False)
    found = groups[columns].mean()
    found["networks"] = groups.seed.nunique()
    return found.reset_index()


def in_digits(v, digits):
    """Return a number in so many significant digits; whole numbers (counts) whole, NaN empty."""
    if pd.isna(v):
        return ""
    return f"{v:.0f}" if abs(v) < 1e6 and float(v).is_integer() else f"{v:.{digits}g}"


def markdown(table, digits=3):
    """Return a table in Markdown."""
    table = table.copy()
    for column in table.select_dtypes("number"):
        table[column] = table[column].map(lambda v: in_digits(v, digits))
    head = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * table.shape[1]]
    return "\n".join(head + ["| " + " | ".join(map(str, row)) + " |" for row in table.to_numpy()])
