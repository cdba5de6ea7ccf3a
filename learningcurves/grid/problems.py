"""From the facts of a cell to its data and its backdoor problem; every random number from a stream of its own."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from learningcurves.data.arrays import load_dataset
from learningcurves.data.problem import BackdoorProblem
from learningcurves.errors import InvalidInput
from learningcurves.grid.trigger_axis import loaded
from learningcurves.poisoning.backdoor import poison
from learningcurves.poisoning.triggers import make_trigger
from learningcurves.streams import integer

_WITH_PAPER_DRAW = ("mnist", "cifar10")  # data whose released draw of samples is known
_SEEDED = ("random_patch", "blend")


def seeds_of(cell) -> dict[str, int]:
    """Return the seeds of data, poisoned samples and trigger of a cell.

    Each is a stream of the root seed and the index of the repeat alone: another learner, reg, fraction or trigger
    never changes a draw. With draw="paper" one seed, that of the repeat, serves trigger and samples, as released.
    """
    data = integer(cell["seed"], use="grid data", repeat=cell["repeat"])
    if cell["draw"] == "paper":
        seed = cell.get("repeat_seed", integer(cell["seed"], use="grid paper", repeat=cell["repeat"]))
        return {"data": data, "poison": seed, "trigger": seed}
    return {"data": data} | {
        use: integer(cell["seed"], use=f"grid {use}", repeat=cell["repeat"]) for use in ("poison", "trigger")
    }


def data_of(cell, places):
    """Return the data set (or the finished problem in an .npz file) of a cell."""
    kind, _, rest = cell["data"].partition(":")
    paper = cell["draw"] == "paper" and kind in _WITH_PAPER_DRAW
    options = {
        "root": places.get("root"),
        "n_train": cell.get("n_train"),
        "n_test": cell.get("n_test"),
        "size": cell.get("image_size"),
        "draw": "paper" if paper else None,
        "seed": None if paper else seeds_of(cell)["data"],
    }
    name = f"npz:{Path(places.get('base', ''), rest).expanduser()}" if kind == "npz" else cell["data"]
    return _load(name, json.dumps(options, sort_keys=True))


@lru_cache(maxsize=2)  # neighbouring tasks use the same data
def _load(name, options):
    return load_dataset(name, **json.loads(options))


def trigger_of(cell, places):
    """Return the trigger of a cell."""
    options, seeds = loaded(cell["trigger"], places.get("base", "")), seeds_of(cell)
    if options["kind"] in _SEEDED:
        options.setdefault("seed", seeds["trigger"])
    if options["kind"] == "random_patch":
        options.setdefault("draw", "paper" if cell["draw"] == "paper" else "stream")
    return make_trigger(options)


def labels_of(cell) -> Any:
    """Return the label map of a cell as `poison` takes it."""
    labels = cell["labels"]
    return dict(map(tuple, labels)) if isinstance(labels, list) else labels


def problem_of(cell, places) -> BackdoorProblem:
    """Return the backdoor problem of a cell: read, poisoned, and passed through the extractor."""
    what = {name: value for name, value in cell.items() if name not in _NOT_IN_PROBLEM}
    return _problem(json.dumps(what, sort_keys=True), json.dumps(places, sort_keys=True))


_NOT_IN_PROBLEM = ("learner", "gamma", "reg", "penalize_intercept", "beta", "half_beta")


@lru_cache(maxsize=1)
def _problem(cell, places) -> Any:
    cell, places = json.loads(cell), json.loads(places)
    data = data_of(cell, places)
    if isinstance(data, BackdoorProblem):
        return data
    draw = "paper" if cell["draw"] == "paper" else "stream"
    problem = poison(
        data,
        trigger_of(cell, places),
        cell["fraction"],
        seed=seeds_of(cell)["poison"],
        mode=cell["mode"],
        labels=labels_of(cell),
        draw=draw,
    )
    return problem if cell.get("extractor") is None else _features(cell, places, data, problem)


@lru_cache(maxsize=1)
def _extractor(name, weights, size):
    from learningcurves.networks.cache import FeatureExtractor

    if not Path(weights).is_file():
        raise InvalidInput(
            f"`weights={weights!r}` is no file. Give the path of the weights of {name!r} (.safetensors)."
        )
    return FeatureExtractor(name, weights, size=size)


def _features(cell, places, data, problem):
    """Return the problem in features. Those of all training samples are computed once, whichever of them are poisoned."""
    from learningcurves.networks.features import replace_samples

    extractor = _extractor(cell["extractor"], places.get("weights", ""), cell["extractor_size"])
    cache, shape = places.get("cache"), problem.image_shape
    train = extractor.transform(data.X_train, shape, cache=cache)
    poisoned = problem.provenance["indices"]
    stays = np.arange(len(train)) if cell["mode"] == "add" else np.setdiff1d(np.arange(len(train)), poisoned)
    arrays = {
        "clean": train[stays],
        "backdoor": extractor.transform(problem.X_backdoor, shape, cache=cache),
        "test": extractor.transform(data.X_test, shape, cache=cache),
        "triggered": extractor.transform(problem.X_triggered, shape, cache=cache),
    }
    return replace_samples(problem, arrays, dict(extractor.facts))
