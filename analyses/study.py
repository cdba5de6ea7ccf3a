"""What the analyses share: options, pairs and triggers of the study, grids run into one table, tables on disk.

An analysis is one or more grids (dictionaries with the keys of a grid file), run by `learningcurves.run_grid` into
folders of their own, so that an interrupted study goes on where it stopped; what it finds are small tables.
"""

import argparse
import ast
import atexit
import hashlib
import inspect
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import pandas as pd

import learningcurves as lc
from learningcurves.errors import LearningCurvesError
from learningcurves.grid import load_spec
from learningcurves.grid.backends import unordered, workers
from learningcurves.grid.problems import problem_of as grid_problem
from learningcurves.grid.store import Store
from learningcurves.grid.tasks import measure as measure_curves
from learningcurves.storage import write_atomic

HERE = Path(__file__).resolve().parent
TABLES = HERE / "tables"
SEEDS = (1, 10, 11, 100, 101)  # the paper's, for slopes; curves have 999
PAIRS = {
    "mnist": ("mnist:7-1", "mnist:3-0", "mnist:5-2"),
    "cifar10": ("cifar10:airplane-frog", "cifar10:bird-dog", "cifar10:airplane-truck"),
    "imagenette": ("imagenette:tench-garbage truck",),
    "digits": ("digits:7-1",),
}
PATCHES = {"mnist": (3, 6), "cifar10": (8, 16), "imagenette": (28,), "digits": (2,)}  # sides in pixels
GAMMAS = {"mnist": (5e-4, 5e-3), "cifar10": (1e-4, 1e-3), "imagenette": (1e-4, 1e-3), "digits": (1e-2, 1e-1)}
LINEAR = ("linear_svm", "logistic", "ridge")
INVISIBLE = {"kind": "invisible", "strength": 10 / 255}
IMAGE_SIDE = 128  # pictures are enlarged to this before the feature extractor
RUN = {"collect": False, "noted": False, "started": time.perf_counter(), "cells": 0}


# %% Command line


def arguments(question, number, *, data=("mnist",)):
    """Return the options every analysis has; `pairs` is resolved to full names."""
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--small", action="store_true", help="built-in digits, a minute, no data needed")
    parser.add_argument("--out", type=Path, default=Path(f"results/{number}"), help="folder of the cells")
    parser.add_argument("--pairs", nargs="+", default=None, help="such as mnist:7-1, or a whole set: mnist, cifar10")
    parser.add_argument("--tables", type=Path, default=None, help="folder of the tables (default: OUT/tables)")
    parser.add_argument(
        "--seeds", type=int, default=len(SEEDS), help="repeats of analysis 02: the first of the paper's seeds"
    )
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--collect", action="store_true", help="measure nothing: tables of the cells that are there")
    options = parser.parse_args()
    RUN["collect"] = options.collect
    named = options.pairs or (("digits",) if options.small else data)
    options.pairs = [pair for name in named for pair in PAIRS.get(name, (name,))]
    if options.small:
        options.out = options.out.with_name(options.out.name + "-small")
    options.tables = options.tables or options.out / "tables"
    options.number = number
    print(question)
    if not options.collect:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a scheduler's stop ends it as Ctrl-C does
        atexit.register(_note_run, options)
    return options


def kind_of(pair):
    return pair.split(":")[0]


def by_kind(pairs):
    """Return {data set: its pairs}, in order."""
    return {kind: [p for p in pairs if kind_of(p) == kind] for kind in dict.fromkeys(map(kind_of, pairs))}


# %% Grids


def patches(kind, sizes=None):
    """Return the study's trigger: a random patch for each class, of every size (by default all of the data set's)."""
    return {"kind": "random_patch", "size": list(sizes or PATCHES[kind])}


def settings(kind, seeds=(999,)):
    """Return the keys of a grid that a data set has in all analyses: the released draws, features, no half_beta."""
    keys = {"draw": "paper", "seeds": list(seeds), "half_beta": False}
    if kind in ("cifar10", "imagenette"):
        keys |= {"extractor": "mobilenet_v2", "extractor_size": IMAGE_SIDE, "weights": str(weights_file())}
        keys |= {"cache": str(feature_cache())}
    return keys | ({"image_size": 112} if kind == "imagenette" else {})


def grids(options, wanted, measure=measure_curves):
    """Run grids, {name: keys}, each into a folder of its own, and return their rows as one table.

    Columns are those of `learningcurves.collect`, with the data as `pair`, the seed of the released draw as `seed`, the
    trigger in short (``patch-3``) and the name of the grid as `grid`.
    """
    frames = []
    for name, keys in wanted.items():
        out = options.out / (name if measure is measure_curves else f"{name}-{_source_digest(measure)[:8]}")
        if RUN["collect"]:
            frame = lc.collect(out)
            print(f"  {out}: {frame.cell.nunique()} of {len(load_spec(keys))} cells are there")
        else:
            frame = lc.run_grid(keys, out, n_jobs=options.n_jobs, measure=measure, progress=sys.stderr.isatty())
        RUN["cells"] += frame.cell.nunique()
        failed = frame[frame.status != "ok"].drop_duplicates("cell")
        if len(failed):
            print(f"  {name}: {len(failed)} cells failed, the first: {failed.message.iloc[0]}")
        frames.append(_in_short(frame).assign(grid=name))
    return pd.concat(frames, ignore_index=True)


def _in_short(frame):
    def trigger(row):
        if row["trigger_kind"] == "random_patch":
            return f"patch-{int(row['trigger_size'])}"
        return (
            f"invisible-{row['trigger_strength'] * 255:.0f}" if row["trigger_kind"] == "invisible" else row["trigger"]
        )

    frame = frame.drop(columns="seed").rename(columns={"data": "pair", "repeat_seed": "seed"})
    names = ["trigger", "trigger_kind", *(c for c in ("trigger_size", "trigger_strength") if c in frame)]
    known = frame[names].drop_duplicates()
    short = dict(zip(known.trigger, (trigger(row) for row in known.to_dict("records")), strict=True))
    return frame.assign(trigger=frame.trigger.map(short), gamma=frame.gamma.astype(float))


def ends(table):
    """Return one row a curve: what the slope says at beta = 0, and what came of it at beta = 1."""
    names = ["loss_triggered", "accuracy_clean", "loss_clean", "asr"]
    first = table[table.beta == 0].drop(columns="bk")
    last = table[table.beta == 1].set_index(["grid", "cell"])
    last = last[["bk", *names, "status"]].add_suffix("_1").rename(columns={"bk_1": "bk"})
    both = first.join(last, on=["grid", "cell"])
    ok = (both.status == "ok") & (both.status_1 == "ok")
    return both.assign(status=both.status.where(~ok, "ok").where(both.status != "ok", both.status_1)).drop(
        columns=["beta", "status_1"]
    )


def problem_of(pair, trigger, fraction=0.1, seed=999, pixels=False):
    """Return the backdoor problem of a pair as the grids have it, or of its pixels; `trigger` such as ``patch-3``."""
    kind, size = kind_of(pair), int(trigger.removeprefix("patch-"))
    keys = settings(kind, [seed]) | {"data": pair, "learner": "logistic", "reg": 1.0, "fraction": fraction}
    if pixels:
        keys = {name: v for name, v in keys.items() if name not in ("extractor", "extractor_size", "weights", "cache")}
    task = next(load_spec(keys | {"trigger": patches(kind, [size])}).tasks())
    return grid_problem(task.cells[0], task.places)


def learner_of(name, gamma=None, **options):
    """Return a learner by its name in a grid."""
    if name == "rbf_svm":
        return lc.KernelSVM(gamma=gamma)
    return {"linear_svm": lc.LinearSVM, "logistic": lc.Logistic, "ridge": lc.Ridge}[name](**options)


def training(size, **more):
    """Return how the networks of attacks and of SODA are trained, from the entry of a study's `SIZES`."""
    return {
        "epochs": size["epochs"],
        "batch_size": size["batch"],
        "lr": 0.1,
        "weight_decay": 5e-4,
        "schedule": "one_cycle",
        "record": "none",
        "progress": False,
        **more,
    }


def data_folder():
    return Path(os.environ.get("LEARNINGCURVES_DATA", HERE.parent.parent / "shared" / "data"))


def weights_file():
    return data_folder().parent / "weights" / "mobilenet_v2_imagenet_int8.safetensors"


def reference_folder():
    return data_folder().parent / "reference"


def feature_cache():
    return Path(os.environ.get("LEARNINGCURVES_CACHE", "results/features")).resolve()


# %% Cells that are no grid: any dictionaries, any rows


def run(cells, measure, out, n_jobs=1):
    """Measure every cell that has no file in `out` yet; return all rows as one table in the order of the cells."""
    store, digest = Store(out), _source_digest(measure)
    store.open()
    ids = {_cell_id(cell, digest): cell for cell in cells}
    todo = [(identity, cell) for identity, cell in ids.items() if store.read(identity) is None]
    if RUN["collect"]:
        print(f"  {len(todo)} of {len(cells)} cells are missing")
        todo = []
    with workers("loky", n_jobs, None):
        for i, record in enumerate(unordered(_measured, todo, measure), 1):
            store.write(record["id"], record)
            print(f"  {i} of {len(todo)} cells", flush=True)
    RUN["cells"] += len(ids)
    found = [record for identity in ids if (record := store.read(identity)) is not None]
    return pd.DataFrame([row for record in found for row in record["table"]])


def _measured(todo, measure):
    identity, cell = todo
    try:
        rows = [{**cell, **row, "status": row.get("status", "ok")} for row in measure(cell)]
    except LearningCurvesError as error:
        rows = [{**cell, "status": type(error).__name__, "message": str(error)}]
    return {"id": identity, "cell": cell, "table": json.loads(json.dumps(rows, default=float))}


def _source_digest(measure):
    """Return a name for what `measure` does, so that cells of another version are measured anew."""
    tree = ast.dump(ast.parse(inspect.getsource(measure)))
    return hashlib.sha256(tree.encode()).hexdigest()[:16]


def _cell_id(cell, digest):
    return hashlib.sha256(json.dumps({**cell, "_measure": digest}, sort_keys=True).encode()).hexdigest()[:32]


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


def finish(options):
    """Add this run to what the analysis has cost so far, and write the sum into the table of times."""
    if RUN["collect"]:
        return
    runs = _note_run(options)
    row = {"analysis": options.number, "data": _data(options), "cells": RUN["cells"]}
    row |= {"cpu_seconds": sum(r["cpu"] for r in runs), "n_jobs": options.n_jobs, "runs": len(runs), "measured": True}
    table = Path(options.tables) / "times.csv"
    rows = read_table("times", options.tables).astype({"analysis": str}).to_dict("records") if table.exists() else []
    rows = [r for r in rows if (r["analysis"].zfill(2), r["data"]) != (row["analysis"], row["data"])]
    frame = pd.DataFrame([*rows, row]).assign(analysis=lambda f: f.analysis.astype(str).str.zfill(2))
    write_table(frame.sort_values(["data", "analysis"]), options.tables, "times", digits=4)


def _note_run(options):
    """Add the CPU time of this run, with its workers, to the file beside the cells; return all runs so far.

    An analysis that was stopped has several runs, and each notes itself as it ends: the sum is what was measured.
    """
    path = options.out / f"seconds-{_data(options).replace(' ', '-')}.json"
    runs = json.loads(path.read_text()) if path.exists() else []
    if RUN["noted"]:
        return runs
    if options.n_jobs != 1:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)  # the time of a child is known when it has ended
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() + children.ru_utime + children.ru_stime
    runs.append({"cpu": cpu, "wall": time.perf_counter() - RUN["started"], "n_jobs": options.n_jobs})
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(runs, indent=1).encode())
    RUN["noted"] = True
    return runs


def _data(options):
    return " ".join(by_kind(options.pairs))
