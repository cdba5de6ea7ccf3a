"""The words of a grid file: what each key may hold, and what it means when it is left out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from learningcurves.checks import (
    check_beta,
    check_choice,
    check_fraction,
    check_integer,
    check_number,
    check_reg,
    check_seed,
)
from learningcurves.errors import InvalidInput
from learningcurves.grid.source import nearest

#: Learner names of a grid, and whether each penalises its intercept unless told otherwise.
LEARNERS = {
    "logistic": True,
    "ridge": False,
    "linear_svm": False,
    "squared_hinge_svm": False,
    "rbf_svm": False,
    "softmax": False,
}
EXTRACTORS = ("mobilenet_v2",)
REQUIRED = object()
MAX_CELLS = 100_000


def _text(value, name):
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"`{name}={value!r}` is not a text.")
    return value


def _learner(value, name):
    if _text(value, name) not in LEARNERS:
        known = ", ".join(map(repr, LEARNERS))
        raise InvalidInput(f"`{name}={value!r}` is no learner. {nearest(value, LEARNERS)}Known learners: {known}.")
    return value


def _gamma(value, name):
    if isinstance(value, str):
        return check_choice(value, name, ("scale", "auto"))
    return check_number(value, name, low=0.0, open_low=True, hint="It is the width 1/length^2 of the rbf kernel.")


def _fraction(value, name):
    value = check_fraction(value, name)
    if value == 0:
        raise InvalidInput(
            f"`{name}=0` poisons no sample; the clean model is the point beta = 0 of any other fraction."
        )
    return value


def _labels(value, name):
    """Return "next", a target label, or a mapping as a tuple of (source, target)."""
    if isinstance(value, Mapping):
        if not value:
            raise InvalidInput(f"`{name}` is an empty table. Write for example {{ 0 = 1 }}.")
        return tuple(sorted((_label(s, name), _label(t, name)) for s, t in value.items()))
    return _label(value, name)


def _label(value, name):
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidInput(f"`{name}={value!r}` is not 'next', a label, or a table {{ source = target }}.")
    # keys of a TOML table are always texts
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _mode(value, name):
    return check_choice(_text(value, name), name, ("replace", "add"))


def _draw(value, name):
    return check_choice(_text(value, name), name, ("random", "paper"))


def _count(value, name):
    return check_integer(value, name, low=1, hint="It is a number of samples.")


def _pixels(value, name):
    return check_integer(value, name, low=1, hint="It is the side of the images in pixels.")


def _extractor(value, name):
    return None if _text(value, name) == "none" else check_choice(value, name, ("none", *EXTRACTORS))


def _penalty(value, name):
    hint = "Write true (weight 1), false, or the weight of b^2."
    return float(value) if isinstance(value, bool) else check_number(value, name, low=0.0, hint=hint)


def _flag(value, name):
    if not isinstance(value, bool):
        raise InvalidInput(f"`{name}={value!r}` is not true or false.")
    return value


def _beta(value, name):
    return tuple(check_beta(value, name).tolist())


def _seeds(value, name):
    if not isinstance(value, list | tuple) or not value:
        raise InvalidInput(f"`{name}={value!r}` is not a list of seeds, one a repeat.")
    return tuple(check_seed(s, name) for s in value)


@dataclass(frozen=True)
class Key:
    """One key: the check of one value, the default, and whether a list of values makes an axis of it."""

    check: Callable
    default: object = None
    axis: bool = True
    meaning: str = ""


#: Axes come first, in the order in which a grid is walked: the last one changes fastest.
KEYS = {
    "data": Key(_text, REQUIRED, meaning="data set, e.g. 'digits:7-1', 'mnist:7-1', 'npz:PATH'"),
    "extractor": Key(_extractor, meaning="frozen network whose features are learned from, or 'none'"),
    "n_train": Key(_count, meaning="number of training samples"),
    "n_test": Key(_count, meaning="number of test samples"),
    "image_size": Key(_pixels, meaning="side to which images are resized on reading, where the data allow it"),
    "draw": Key(_draw, "random", meaning="'random', or 'paper' for the released random numbers"),
    "seed": Key(check_seed, 0, meaning="root of all random numbers"),
    "repeat": Key(check_integer, 1, meaning="number of repeats, or their indices"),
    "trigger": Key(_text, meaning="table with kind and options; a list inside is an axis, so is a list of tables"),
    "labels": Key(_labels, "next", meaning="'next', one target label, or a table { source = target }"),
    "mode": Key(_mode, "replace", meaning="'replace' or 'add'"),
    "fraction": Key(_fraction, meaning="share p of the candidates that is poisoned"),
    "penalize_intercept": Key(_penalty, meaning="true, false or a weight; by default what the learner does"),
    "learner": Key(_learner, REQUIRED, meaning="one of " + ", ".join(LEARNERS)),
    "gamma": Key(_gamma, meaning="width of the rbf kernel: numbers, 'scale' (default) or 'auto'"),
    "reg": Key(check_reg, REQUIRED, meaning="strength of the regularisation, lambda"),
    "beta": Key(_beta, axis=False, meaning="backdoor weights of every curve, inside a cell"),
    "seeds": Key(_seeds, axis=False, meaning="with draw='paper': the seed of each repeat"),
    "half_beta": Key(
        _flag, True, axis=False, meaning="whether to solve for half_beta, which costs as much as the curve"
    ),
    "root": Key(_text, axis=False, meaning="folder of the data; no part of the settings"),
    "weights": Key(_text, axis=False, meaning="weight file of the extractor"),
    "extractor_size": Key(_pixels, axis=False, meaning="side to which the extractor resizes images"),
    "cache": Key(
        _text, axis=False, meaning="folder of the features, which grids may share; by default beside the cells"
    ),
    "max_cells": Key(_count, MAX_CELLS, axis=False, meaning="refuse a larger grid"),
}
AXES = tuple(name for name, key in KEYS.items() if key.axis)

#: Words that other packages use for ours.
RENAMED = {
    "lambda": "`reg`",
    "C": "`reg` with reg = 1/C",
    "c": "`reg` with reg = 1/C",
    "alpha": "`reg`, or `alpha` inside `trigger`",
    "regularisation": "`reg`",
    "regularization": "`reg`",
    "p": "`fraction`",
    "poison_rate": "`fraction`",
    "model": "`learner`",
    "dataset": "`data`",
    "test_size": "`n_test`, a number of samples",
    "train_size": "`n_train`, a number of samples",
    "repeats": "`repeat`",
    "betas": "`beta`",
    "size": "`size` inside `trigger`",
    "kind": "`kind` inside `trigger`",
    "strength": "`strength` inside `trigger`",
    "position": "`position` inside `trigger`",
    "per_class": "`per_class` inside `trigger`",
}
