"""What the analyses share: data and triggers by name, learners, one cell after the other, tables.

An analysis is a list of cells (plain dictionaries) and a function `measure(cell)` that returns rows. A finished cell is
a file in the output folder, so that an interrupted study goes on where it stopped.
"""

import argparse
import ast
import hashlib
import inspect
import json
import os
import platform
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config

import learningcurves as lc
from learningcurves.errors import LearningCurvesError
from learningcurves.storage import write_atomic

HERE = Path(__file__).resolve().parent
TABLES = HERE / "tables"
SEEDS = (1, 10, 11, 100, 101)  # the paper's, for slopes; curves have 999
PAIRS = {
    "mnist": ("mnist:7-1", "mnist:3-0", "mnist:5-2"),
    "cifar10": ("cifar10:airplane-frog", "cifar10:bird-dog", "cifar10:airplane-truck"),
    "digits": ("digits:7-1",),
}
PATCHES = {"mnist": (3, 6), "cifar10": (8,), "digits": (2,)}  # sides in pixels
GAMMAS = {"mnist": (5e-4, 5e-3), "cifar10": (1e-4, 1e-3), "digits": (1e-2, 1e-1)}
RUN = {"collect": False}  # set by the option --collect
IMAGE_SIDE = 128  # CIFAR images are enlarged to this before the feature extractor
NEAR_ZERO = (0.0, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0)  # beta where the whole curve is to be summed up


# %% Command line


def arguments(question, number, *, data=("mnist",)):
    """Return the options every analysis has; `pairs` is resolved to full names."""
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--small", action="store_true", help="built-in digits, a minute, no data needed")
    parser.add_argument("--out", type=Path, default=Path(f"results/{number}"), help="folder of the cells")
    parser.add_argument("--pairs", nargs="+", default=None, help="such as mnist:7-1, or a whole set: mnist, cifar10")
    parser.add_argument("--tables", type=Path, default=None, help="folder of the tables (default: OUT/tables)")
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--collect", action="store_true", help="measure nothing: tables of the cells that are there")
    options = parser.parse_args()
    RUN["collect"] = options.collect
    named = options.pairs or (("digits",) if options.small else data)
    options.pairs = [pair for name in named for pair in PAIRS.get(name, (name,))]
    if options.small:
        options.out = options.out.with_name(options.out.name + "-small")
    options.tables = options.tables or options.out / "tables"
    print(question)
    return options


# %% Data, triggers, learners


def kind_of(pair):
    return pair.split(":")[0]


@lru_cache(maxsize=2)
def load(pair, n_train=None, draw="paper", seed=0, **size):
    """Return the images of a pair named ``kind:a-b``."""
    kind, classes = pair.split(":")
    classes = classes.split("-")
    if kind == "digits":
        return lc.load_digits_pair(*map(int, classes), n_train=n_train, seed=seed)
    extra = {"draw": draw} if draw == "paper" else {"draw": draw, "n_train": n_train or 1500, "n_test": 500}
    if kind == "mnist":
        return lc.load_mnist_pair(*map(int, classes), seed=seed, **extra)
    return lc.load_cifar10_pair(*classes, seed=seed, **extra)


def trigger_of(cell):
    """Return the trigger of a cell: ``patch-3`` is the paper's random patch, drawn from the cell's seed."""
    name, _, value = cell["trigger"].partition("-")
    if name == "patch":
        return lc.RandomPatch(size=int(value), seed=cell["seed"], draw="paper")
    if name == "invisible":
        return lc.Invisible(strength=float(value) / 255)
    raise ValueError(f"no trigger is named {cell['trigger']!r}")


@lru_cache(maxsize=4)
def _problem(pair, trigger, fraction, seed):
    data = load(pair)
    cell = {"trigger": trigger, "seed": seed}
    if kind_of(pair) == "cifar10":
        return _feature_problem(pair, data, trigger_of(cell), fraction, seed)
    return lc.poison(data, trigger_of(cell), fraction, seed=seed, draw="paper")


def problem_of(cell):
    """Return the backdoor problem of a cell; for CIFAR-10 on the features of a frozen network."""
    return _problem(cell["pair"], cell["trigger"], cell["fraction"], cell["seed"])


@lru_cache(maxsize=1)
def extractor():
    from learningcurves.networks.cache import FeatureExtractor

    return FeatureExtractor("mobilenet_v2", weights_file(), size=IMAGE_SIDE)


def data_folder():
    return Path(os.environ.get("LEARNINGCURVES_DATA", HERE.parent.parent / "shared" / "data"))


def weights_file():
    return data_folder().parent / "weights" / "mobilenet_v2_imagenet_int8.safetensors"


def reference_folder():
    return data_folder().parent / "reference"


def feature_cache():
    return Path(os.environ.get("LEARNINGCURVES_CACHE", "results/features"))


def features(X, shape):
    return np.asarray(extractor().transform(X, shape, cache=feature_cache()), dtype=np.float64)


def _feature_problem(pair, data, trigger, fraction, seed):
    """Stamp the images, then take features; only stamped images are new to the cache.

    The draws nest, so the features of the largest fraction hold those of the smaller ones.
    """
    most = lc.poison(data, trigger, max(fraction, 0.2 if seed == 999 else 0.1), seed=seed, draw="paper")
    chosen = np.array(most.provenance["indices"])
    count = int(len(data.y_train) * fraction)
    train, test = features(data.X_train, data.image_shape), features(data.X_test, data.image_shape)
    stamped = features(most.X_backdoor, data.image_shape)[:count]
    keep = np.setdiff1d(np.arange(len(data.y_train)), chosen[:count])
    facts = {**most.provenance, "indices": chosen[:count].tolist(), "features": dict(extractor().facts)}
    return lc.BackdoorProblem(
        train[keep], data.y_train[keep], stamped, most.y_backdoor[:count], test, data.y_test,
        features(most.X_triggered, data.image_shape), most.y_triggered,
        y_source=most.y_source, class_names=data.class_names, provenance=facts,
    )  # fmt: skip


def learner_of(cell, **options):
    """Return the learner of a cell; lambda is given to `learning_curve`."""
    if cell["learner"] == "rbf_svm":
        return lc.KernelSVM(gamma=cell["gamma"])
    return {"linear_svm": lc.LinearSVM, "logistic": lc.Logistic, "ridge": lc.Ridge}[cell["learner"]](**options)


def learners(pair, rbf=True):
    """Return (learner, gamma) of every learner that a pair is studied with."""
    linear = [(name, None) for name in ("linear_svm", "logistic", "ridge")]
    return linear + [("rbf_svm", gamma) for gamma in GAMMAS[kind_of(pair)] if rbf]


# %% Running cells


def run(cells, measure, out, n_jobs=1):
    """Measure every cell that has no file in `out` yet; return all rows as one table in the order of the cells."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    started, digest = time.perf_counter(), _source_digest(measure)
    todo = [cell for cell in cells if not _path(out, cell, digest).exists()]
    if RUN["collect"]:
        print(f"  {len(todo)} of {len(cells)} cells are missing")
        cells, todo = [cell for cell in cells if cell not in todo], []
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        jobs = Parallel(return_as="generator_unordered")(delayed(_finish)(measure, c, out, digest) for c in todo)
        for i, _ in enumerate(jobs, 1):
            if i % max(1, len(todo) // 20) == 0 or i == len(todo):
                print(f"  {i} of {len(todo)} cells, {time.perf_counter() - started:.0f} s", flush=True)
    found = [json.loads(_path(out, cell, digest).read_text()) for cell in cells]
    table, seconds = pd.DataFrame([row for f in found for row in f["rows"]]), sum(f["seconds"] for f in found)
    failed = table[table["status"] != "ok"] if "status" in table else table.iloc[:0]
    print(f"  {len(cells)} cells, {len(table)} rows, {len(failed)} failed, {seconds:.0f} s of one core", flush=True)
    record(out, seconds, len(cells))
    return table


def _source_digest(measure):
    """Return a name for what `measure` does, so that cells of another version are measured anew."""
    tree = ast.dump(ast.parse(inspect.getsource(measure)))
    return hashlib.sha256(tree.encode()).hexdigest()[:16]


def _path(out, cell, digest):
    words = json.dumps({**cell, "_measure": digest}, sort_keys=True)
    return out / f"{hashlib.sha256(words.encode()).hexdigest()[:32]}.json"


def _finish(measure, cell, out, digest):
    started = time.process_time()
    try:
        rows = [{**cell, **row, "status": row.get("status", "ok")} for row in measure(cell)]
    except LearningCurvesError as error:
        rows = [{**cell, "status": type(error).__name__, "message": str(error)}]
    content = {"cell": cell, "seconds": time.process_time() - started, "rows": rows}
    write_atomic(_path(out, cell, digest), json.dumps(content, default=float).encode())


def record(out, seconds, n_cells):
    """Write how the cells in `out` were made, beside them."""
    facts = {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seconds_of_one_core": round(seconds, 1),
        "cells": n_cells,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "learningcurves": lc.__version__,
        "machine": platform.machine(),
    }
    write_atomic(Path(out) / "manifest.json", json.dumps(facts, indent=1).encode())


# %% Tables


def write_table(frame, folder, name, digits=5):
    """Write a CSV with `digits` significant digits; the same numbers give the same bytes."""
    frame = frame.drop(columns=[c for c in ("message",) if c in frame], errors="ignore")
    path = Path(folder) / f"{name}.csv"
    write_atomic(path, frame.to_csv(index=False, float_format=f"%.{digits}g", lineterminator="\n").encode())
    print(f"  {path}: {len(frame)} rows")
    return path


def read_table(name, folder=None):
    return pd.read_csv(Path(folder or TABLES) / f"{name}.csv")


def kinds(pairs):
    """Return the data sets among the pairs, in order."""
    return list(dict.fromkeys(kind_of(pair) for pair in pairs))
