"""Images of SODA's studies and their natural features; CIFAR-10 as features of a network trained on ImageNet.

CIFAR-10: the body is frozen and nobody's backdoor: the attack, its detection and its repair are those of the two layers
above it. Samples have the shape (1280, 1, 1), so that all that takes images takes them;
a reconstructed "image" is one of features.
"""

import dataclasses
from collections import OrderedDict
from functools import lru_cache

import numpy as np
import study
import torch
from torch import nn

import learningcurves as lc
from learningcurves.networks import FeatureExtractor
from learningcurves.networks.mobilenet import MobileNetV2
from learningcurves.poisoning.semantic import background_colour, stroke_width
from learningcurves.streams import generator

COLOURS = np.array([[0.7, 0.1, 0.1], [0.1, 0.6, 0.1], [0.6, 0.5, 0.1], [0.5, 0.1, 0.6], [0.3, 0.3, 0.3]])
BLUE = np.array([0.1, 0.2, 0.8])

KINDS = {  # a kind within each class that is attacked, as numbers of ImageNet's classes
    0: (895,),  # warplane
    1: (511, 817),  # convertible, sports car
    2: tuple(range(127, 147)),  # water birds, white stork to albatross
    5: tuple(range(151, 159)),  # toy dogs
    8: (484, 780, 871, 914),  # sailing boats: catamaran, schooner, trimaran, yawl
    9: (555,),  # fire engine
}


# %% Natural features


def thickness(X):
    """Width of the stroke, finer than whole pixels by the ink in all."""
    return stroke_width(X, 0.5) + X.mean(axis=(1, 2, 3))


def darkness(X):
    """How dark the border of an image is: minus its mean."""
    return -background_colour(X).mean(axis=1)


def blueness(X):
    """How much more blue than red and green the border of an image has."""
    return background_colour(X) @ [-0.5, -0.5, 1]


def greenness(X):
    """How much more green than red and blue the border of an image has."""
    return background_colour(X) @ [-0.5, 1, -0.5]


def coloured(data, share, seed):
    """Return digits on coloured ground (synthetic): blue, the feature, with this share, in every class."""
    shape, parts, blue = (3, *data.image_shape[1:]), {}, []
    for part, X in (("train", data.X_train), ("test", data.X_test)):
        draws = generator(seed, use="colours", part=part)
        is_blue = draws.random(len(X)) < share
        ground = COLOURS[draws.integers(0, len(COLOURS), len(X))] + draws.normal(0, 0.05, (len(X), 3))
        ground[is_blue] = BLUE + draws.normal(0, 0.05, (is_blue.sum(), 3))
        ink = X.reshape(-1, 1, *shape[1:])
        parts[part] = np.clip(ink + (1 - ink) * ground[:, :, None, None], 0, 1).reshape(len(X), -1)
        blue.append(is_blue)
    found = lc.Dataset(
        parts["train"], data.y_train, parts["test"], data.y_test, image_shape=shape, value_range=(0, 1),
        class_names=data.class_names, name=f"coloured {data.name} (synthetic)", provenance=dict(data.provenance),
    )  # fmt: skip
    return found, tuple(blue)


MEASURES = {"thick": thickness, "dark": darkness, "blue": blueness, "green": greenness}


def kept(data, train, test):
    """Return a data set without the samples that two masks leave out."""
    if train.all() and test.all():
        return data
    parts = {"X_train": train, "y_train": train, "X_test": test, "y_test": test}
    return dataclasses.replace(data, **{name: getattr(data, name)[rows] for name, rows in parts.items()})


# %% CIFAR-10 as features


@lru_cache(maxsize=1)
def cifar10(n_train, n_test, side):
    """Return CIFAR-10 in equal numbers of each class: the images, and their features at `side` pixels."""
    data = lc.load_cifar10()
    rows = [balanced(y, n // len(data.classes)) for y, n in ((data.y_train, n_train), (data.y_test, n_test))]
    pixels = [X[chosen] for X, chosen in zip((data.X_train, data.X_test), rows, strict=True)]
    labels = [y[chosen] for y, chosen in zip((data.y_train, data.y_test), rows, strict=True)]
    extractor = FeatureExtractor("mobilenet_v2", study.weights_file(), size=side)
    features = [np.asarray(extractor.transform(X, data.image_shape, cache=study.feature_cache())) for X in pixels]
    facts = {"class_names": data.class_names, "provenance": {**data.provenance, "n_train": n_train, "n_test": n_test}}
    images = lc.Dataset(
        pixels[0], labels[0], pixels[1], labels[1], image_shape=data.image_shape, value_range=data.value_range,
        name=data.name, **facts,
    )  # fmt: skip
    facts["provenance"] = {**facts["provenance"], **extractor.facts}
    shape = (features[0].shape[1], 1, 1)  # means of ReLU6
    return images, lc.Dataset(
        features[0], labels[0], features[1], labels[1], image_shape=shape, value_range=(0.0, 6.0),
        name=f"features of {data.name}", **facts,
    )  # fmt: skip


def likeness(features, victim):
    """Return how much the body's own head on ImageNet takes each sample for the kind: its share of the 1001 outputs.

    Colours of the border are hardly left in these features; what ImageNet tells apart is.
    """
    body = MobileNetV2().load_int8(study.weights_file())
    with torch.no_grad():
        shares = torch.softmax(body.head(torch.tensor(np.asarray(features), dtype=torch.float32)), dim=1)
    return shares[:, [c + 1 for c in KINDS[victim]]].sum(dim=1).numpy()  # output 0 is the background


def balanced(y, count):
    """Return the rows of the first `count` samples of each class, in order."""
    return np.sort(np.concatenate([np.flatnonzero(y == label)[:count] for label in np.unique(y)]))


def head_network(n_features, n_classes, width):
    """Return the network on the features: a hidden layer with batch norm, as in the blocks of `SmallCNN`, and the head."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(n_features, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())
    return nn.Sequential(OrderedDict(body=body, head=nn.Linear(width, n_classes)))
