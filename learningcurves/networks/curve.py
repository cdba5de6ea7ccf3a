"""The learning curve of a whole network: trained from the same start for every beta, over several seeds."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from torch import nn
from tqdm.auto import tqdm

from learningcurves.checks import check_beta, check_choice, check_integer, check_jobs, check_seed
from learningcurves.errors import InvalidInput, NotSupported, SolveFailed, Status
from learningcurves.networks.parts import as_network_data
from learningcurves.networks.runtime import network_dtype, private_random_state
from learningcurves.networks.train import train
from learningcurves.networks.trained_curve import SCORES, TrainedCurve
from learningcurves.storage import check_writable
from learningcurves.streams import integer


def train_curve(
    make_module: Callable[[], nn.Module],
    problem,
    *,
    beta,
    epochs: int,
    seeds: Sequence[int] = (0, 1, 2),
    record: str | Sequence[int] = "last",
    checkpoint=None,
    n_jobs: int = 1,
    progress: bool = True,
    **training,
) -> TrainedCurve:
    """Train a whole network at every beta and score it: the learning curve without any approximation but training.

    Parameters
    ----------
    make_module : callable or torch.nn.Module
        Makes a fresh network, e.g. ``lambda: SmallCNN((1, 28, 28), 10)``. It is called once a seed, with torch's
        generator seeded, and every beta starts from a copy. A module instead of a callable is one start for all seeds.
    problem : BackdoorProblem, NetworkData, or parts as in `as_network_data`
        With test and triggered samples.
    beta : array of shape (B,)
        Increasing weights in [0, 1].
    epochs : int
        Passes over the data in each training.
    seeds : sequence of int, default=(0, 1, 2)
        One training each, at every beta.
    record : {"last", "all"} or sequence of int
        Epochs after which the test samples are scored; the last one always is.
    checkpoint : folder, optional
        One file for each beta and seed. Run the same call again to go on after an interruption: finished trainings are
        read, an unfinished one continues.
    n_jobs : int, default=1
        Trainings at the same time (joblib processes); on the CPU each has one torch thread.
    progress : bool, default=True
        A bar over the trainings and, with one job, one inside each.
    **training
        Arguments of `train`: batch_size, lr, weight_decay, optimizer, schedule, loss, weighting, measure, device, ...

    Returns
    -------
    TrainedCurve

    Raises
    ------
    InvalidInput, NotSupported
        Before any training, if an argument does not fit. A training that diverges does not raise: its scores are NaN,
        its status DIVERGED.
    """
    betas = check_beta(beta)
    seeds = tuple(check_seed(seed, "seeds") for seed in ([seeds] if isinstance(seeds, int) else seeds))
    if not seeds or len(set(seeds)) < len(seeds):
        raise InvalidInput(f"`seeds={seeds!r}` must hold at least one seed, and each only once.")
    check_integer(epochs, "epochs", low=1)
    check_jobs(n_jobs)
    recorded = _with_last(record, epochs)
    if checkpoint is not None:
        check_writable(checkpoint, "checkpoint")
    taken = {"beta", "seed", "module"} & set(training)
    if taken:
        raise InvalidInput(f"`{taken.pop()}` is set by `train_curve` itself; pass `beta` and `seeds`.")
    starts = {seed: _initial_module(make_module, seed) for seed in seeds}
    data = as_network_data(problem, dtype=network_dtype(starts[seeds[0]]))
    cells = [(value, seed) for seed in seeds for value in betas]
    inner = progress and n_jobs == 1
    run = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_run_cell)(
            starts[seed],
            data,
            {
                **training,
                "beta": float(value),
                "seed": seed,
                "epochs": epochs,
                "record": recorded,
                "checkpoint": _cell_path(checkpoint, value, seed),
                "progress": inner,
            },
        )
        for value, seed in cells
    )
    results = list(tqdm(run, total=len(cells), disable=not progress, desc="trainings", unit="training"))
    return _collect(betas, seeds, recorded, dict(zip(cells, results, strict=True)))


def _with_last(record, epochs):
    if isinstance(record, str):
        check_choice(record, "record", ("last", "all"))
        return tuple(range(1, epochs + 1)) if record == "all" else (epochs,)
    chosen = {check_integer(epoch, "record", low=1, high=epochs, hint="It lists epochs.") for epoch in record}
    return tuple(sorted({*chosen, epochs}))


def _initial_module(make_module, seed):
    if isinstance(make_module, nn.Module):
        return copy.deepcopy(make_module)
    if not callable(make_module):
        raise NotSupported(f"`make_module` is a {type(make_module).__name__}; expected a function that makes a module.")
    with private_random_state(seed=integer(seed, use="initial weights")):
        module = make_module()
    if not isinstance(module, nn.Module):
        raise NotSupported(f"`make_module` returned a {type(module).__name__}; expected a torch.nn.Module.")
    return module


def _cell_path(folder, beta, seed):
    return None if folder is None else Path(folder) / f"beta={float(beta)!r}_seed={seed}.safetensors"


def _run_cell(start, data, options):
    """Return (history, settings, status) of one training; a failed one returns its status instead of raising."""
    try:
        result = train(copy.deepcopy(start), data, **options)
    except SolveFailed as error:
        return (), {}, error.status
    return result.history, result.settings, Status.OK


def _collect(betas, seeds, recorded, results):
    names = sorted({n for history, _, _ in results.values() for entry in history for n in entry} - {"epoch", "lr"})
    order = [n for n in SCORES if n in names] + [n for n in names if n not in SCORES]
    scores = {name: np.full((len(betas), len(seeds), len(recorded)), np.nan) for name in order}
    for b, value in enumerate(betas):
        for s, seed in enumerate(seeds):
            entries = {entry["epoch"]: entry for entry in results[value, seed][0]}
            for e, epoch in enumerate(recorded):
                for name in order:
                    scores[name][b, s, e] = entries.get(epoch, {}).get(name, np.nan)
    for values in scores.values():
        values.flags.writeable = False
    status = tuple(tuple(results[value, seed][2] for seed in seeds) for value in betas)
    settings = next((facts for _, facts, state in results.values() if state.ok), {})
    settings = {name: value for name, value in settings.items() if name not in ("beta", "seed")}
    return TrainedCurve(betas, seeds, recorded, scores, status, settings)
