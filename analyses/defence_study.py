"""What the analyses of defences share: the attacked networks, the defender's samples, the defences, and what is measured.

A further defence is one more entry of `DEFENCES`; `measured` gives the rows that every defended network is judged by.
"""

import os
from functools import lru_cache
from pathlib import Path

import attack_study as attacks
import torch

import learningcurves as lc
from learningcurves.defences.metrics import attack_scores, defence_scores

REG = 1.0  # lambda of the head, on standardised features
BETA = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
N_CLEAN = 500  # clean samples that the defender has
TOL = 0.1  # accuracy on held-out samples that the choice among numbers may give away, as BackdoorBench allows
SHARES = (0, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2)  # of the neurons
EPS, STEPS = 16 / 255, 20  # of the perturbation of clean-label poisons
ON_MNIST = ("badnets", "blend", "sinusoid")
ON_CIFAR = ("badnets", "blend", "clean-label PGD")
# poisons: 5 % of the candidates, clean-label 5 % of all images, fewer on MNIST. anp: iterations (published: 2,000) and
# batch (published: 128). relearn: numbers of poisons. seeds: networks that each defence is tried on
STUDIED = {
    "digits": {
        "poisons": dict.fromkeys((*ON_MNIST, "clean-label PGD"), 40), "anp": {"iterations": 200},
        "relearn": (0, 1, 5, 20), "seeds": 1,
    },
    "mnist-wide": {
        "poisons": dict.fromkeys(ON_MNIST, 320), "anp": {"iterations": 2000, "batch_size": 64},
        "relearn": (0, 1, 2, 5, 10, 20, 50, 100), "seeds": 1,
    },
    "cifar10": {
        "poisons": {"badnets": 200, "blend": 200, "clean-label PGD": 800},
        "anp": {"iterations": 1000, "batch_size": 64}, "relearn": (0, 5, 20, 100), "seeds": 3,
    },
    "cifar10-ten": {
        "poisons": {"badnets": 450, "blend": 450, "clean-label PGD": 500}, "anp": {"iterations": 2000},
        "relearn": (0, 1, 2, 5, 10, 20, 50, 100, 200), "seeds": 3,
    },
    "cifar10-full": {
        "poisons": {"badnets": 1000, "blend": 1000, "clean-label PGD": 1250}, "anp": {"iterations": 2000},
        "relearn": (0, 1, 2, 5, 10, 20, 50, 100, 200), "seeds": 3,
    },
}  # fmt: skip


def cells_of(data_sets, names=None, **more):
    """Return the cells of data, seed and attack, each with every value of the further axes `more`."""
    cells = [
        {"data": data, "seed": seed, "attack": attack}
        for data in data_sets
        for seed in attacks.SIZES[data]["seeds"][: STUDIED[data]["seeds"]]
        for attack in STUDIED[data]["poisons"]
        if names is None or attack in names
    ]
    for name, values in more.items():
        cells = [{**cell, name: value} for cell in cells for value in values]
    return cells


# %% Networks


@lru_cache(maxsize=2)
def attacked(data, attack, seed):
    """Return an attack of the size that defences are tried on, the network it was trained into, and clean samples."""
    count, perturb = STUDIED[data]["poisons"][attack], None
    if attack == "clean-label PGD":
        clean = attacks.clean_network(data, seed).to(attacks.device())
        # the strongest point within eps: freezing a sample once it is misclassified leaves it easy to learn
        perturb = lc.PGD(EPS, STEPS, seed=seed, early_stop=False).on(clean)
    problem = attacks.problem_of(data, attack, count, seed, perturb=perturb)
    module = attacks.backdoored(data, attack, count, seed, problem).to(attacks.device())
    rows = slice(0, min(N_CLEAN, problem.n_clean))
    return problem, module, (problem.X_clean[rows].reshape(-1, *problem.image_shape), problem.y_clean[rows])


@lru_cache(maxsize=2)
def scores_before(data, attack, seed):
    problem, module, _ = attacked(data, attack, seed)
    return attack_scores(module, problem)


def pruned(data, attack, seed, choice=None, **options):
    """Return the adversarially pruned network; masks that were learned before are read from their file.

    `choice` says how the amount is chosen, `options` how the masks are learned.
    """
    _, module, clean_data = attacked(data, attack, seed)
    name = f"{data}_{attack.replace(' ', '-')}_{STUDIED[data]['poisons'][attack]}_seed={seed}"
    options = {**STUDIED[data]["anp"], **options}
    known = "".join(f"_{key}={value:g}" for key, value in sorted(options.items()) if key != "iterations")
    state = Path(os.environ[attacks.FOLDER]) / f"{name}{known}.anp"
    return lc.defend_anp(module, clean_data, seed=seed, checkpoint=state, progress=False, **options, **(choice or {}))


def numbers_of(data, seed):
    """Return numbers of neurons to cut: `SHARES` of those that the network has."""
    norms = [m for m in attacks.new_network(data, seed).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    return sorted({round(share * sum(m.num_features for m in norms)) for share in SHARES})


def pruned_by_number(data, attack, seed):
    """Return the network after cutting the smallest masks as long as held-out accuracy falls by at most `TOL`."""
    return pruned(data, attack, seed, {"numbers": numbers_of(data, seed), "tol": TOL})


# %% Defences: each returns the network and what it knows of itself


def _anp(by_number):
    def defend(data, attack, seed):
        result = pruned_by_number(data, attack, seed) if by_number else pruned(data, attack, seed)
        return result.module, {"threshold": result.threshold, "n_pruned": len(result.pruned), "n_units": result.units.n}

    return defend


def _tuned(call):
    def defend(data, attack, seed):
        _, module, clean_data = attacked(data, attack, seed)
        result = call(module, clean_data, epochs=10, lr=0.02, seed=seed)
        return result.module, {"n_pruned": result.settings.get("n_pruned"), "n_units": result.settings.get("n_units")}

    return defend


DEFENCES = {
    "none": lambda data, attack, seed: (attacked(data, attack, seed)[1], {}),
    "finetune": _tuned(lc.defend_finetune),
    "fineprune": _tuned(lc.defend_fineprune),
    "anp": _anp(by_number=False),
    "anp by number": _anp(by_number=True),
    "never attacked": lambda data, attack, seed: (attacks.clean_network(data, seed).to(attacks.device()), {}),
}
CONTROLS = ("none", "never attacked")  # nothing was done to these


# %% What is measured of a network


def measured(after, data, attack, seed, *, compare=True, **facts):
    """Yield the rows of a network: its scores (`compare`: with what changed), last-layer curve, and re-learning."""
    problem, _, clean_data = attacked(data, attack, seed)
    scores = attack_scores(after, problem)
    slope = lc.backdoor_slope(after, problem, reg=REG)
    row = {"what": "scores", "n_poison": problem.n_backdoor, "n_clean": len(clean_data[1]), **facts}
    row |= {**attacks.hits(scores), "slope": slope.value, "slope_relative": slope.relative}
    if compare:
        changes = defence_scores(scores_before(data, attack, seed), scores).set_index("metric")
        for name in changes.index:
            row |= {name: changes.value[name], f"{name}_low": changes.low[name], f"{name}_high": changes.high[name]}
    yield row
    curve = lc.learning_curve(after, problem, beta=list(BETA), reg=REG)
    for beta, bk, loss in zip(curve.beta, curve.bk, curve.loss_triggered, strict=True):
        yield {"what": "curve", "beta": float(beta), "bk": float(bk), "loss_triggered": float(loss)}
    counts = [k for k in STUDIED[data]["relearn"] if k <= problem.n_backdoor]
    again = lc.relearn_curve(after, clean_data, problem, counts=counts, epochs=5, lr=0.02, seeds=(0,))
    for found in again.to_dict("records"):
        yield {"what": "relearn", **{k: v for k, v in found.items() if k != "seed"}}
