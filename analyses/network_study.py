"""What the two network analyses share: images and triggers, networks, training, cells.

Sizes are those of two shared CPU cores: a narrow network and few images. A larger machine changes `SIZES` alone.
"""

import os
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import study
from scipy import stats

import learningcurves as lc
from learningcurves.networks import ResNet18, SmallCNN, train, train_curve
from learningcurves.storage import write_atomic

FRACTIONS = (0.05, 0.15)
SEEDS = (1, 2, 3)
RECORD = (1, 3, 10, 30)
NETWORKS = {"mnist": "the small CNN", "cifar10": "ResNet-18", "digits": "the small CNN"}
FOLDER = "LEARNINGCURVES_NETWORK_STUDY"  # environment variable: where networks are kept, also for worker processes
CIFAR_CLASSES = ("airplane", "frog", "truck")  # all complete in the shared files
# images, test images, width, epochs, trigger's side, weights beta, lambda
SIZES = {
    "mnist": {"n": 6000, "n_test": 1000, "width": 8, "epochs": 30, "patch": 3, "reg": (0.3, 3.0, 30.0)},
    "cifar10": {"n": 2000, "n_test": 900, "width": 8, "epochs": 30, "patch": 8, "reg": (0.3, 3.0, 10.0)},
    "digits": {"n": 600, "n_test": 300, "width": 4, "epochs": 6, "patch": 2, "reg": (0.3, 10.0)},
}
BETA = {"mnist": (0.1, 1.0), "cifar10": (1.0,), "digits": (0.3, 1.0)}  # and 0


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
        "batch_size": 64,
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


def ready_cells(options):
    """Return the cells whose networks are trained already, or all where none is."""
    cells = cells_of(options.pairs)
    return [c for c in cells if _is_trained(c)] or cells


def _is_trained(cell):
    folder = options_of(cell)["checkpoint"]
    return all((folder / f"beta={b!r}_seed={cell['seed']}.safetensors").exists() for b in (0.0, *BETA[cell["data"]]))


# %% Intervals, figures, the page
def interval(name, values):
    """Return {name: mean, name_low, name_high}: Student's 95 % interval over seeds, NaN for one seed."""
    values = values[np.isfinite(values)]
    n = len(values)
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
    mean = float(values.mean()) if n else np.nan
    return {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}


def band(ax, frame, x, y, *, color, marker=None, linestyle="-", label=None):
    """Draw the median over the rows of each x, and their range as a band; return the line."""
    found = frame.groupby(x)[y].agg(["median", "min", "max"])
    (line,) = ax.plot(found.index, found["median"], color=color, marker=marker, linestyle=linestyle, label=label)
    ax.fill_between(found.index, found["min"], found["max"], color=color, alpha=0.18, linewidth=0)
    if len(found) == 1:
        ax.vlines(found.index, found["min"], found["max"], color=color, alpha=0.5)
    return line


def reg_styles(table):
    """Return {lambda: style}, the same in every figure of one table."""
    from learningcurves.plotting.style import group_styles

    regs = sorted(table.reg.unique())
    return dict(zip(regs, group_styles([f"λ = {r:g}" for r in regs]).values(), strict=True))


def save_figure(figure, options, name):
    from learningcurves.plotting import save

    folder = (study.HERE.parent / "docs" / "images" / "networks") if not options.small else options.out / "images"
    return save(figure, folder / name, formats=["png"], dpi=150)


def write_page(options, number, words):
    """Write docs/networks.md from the tables that are there, and keep the findings; with --small into the results."""
    folder = options.tables
    known = _table(folder, "networks_findings")
    rows = [] if known is None else [r for r in known.to_dict("records") if str(r["analysis"]) != str(int(number))]
    found = pd.DataFrame(rows + [{"analysis": str(int(number)), "finding": w} for w in words])
    found = found.sort_values("analysis", key=lambda a: a.astype(str), kind="stable")
    study.write_table(found, folder, "networks_findings")
    summary, secants = _table(folder, "networks_by_reg"), _table(folder, "network_secant_ratios")
    data_sets = list(summary.data.unique()) if summary is not None else options.pairs
    says = lambda n: "\n".join(f"- {w}" for w in found[found.analysis.astype(str) == n].finding)  # noqa: E731
    parts = [PAGE_HEAD.format(sizes=_sizes_in_words(data_sets)), VERDICT if not options.small else ""]
    if summary is not None:
        parts += ["## Weight decay as lambda\n", says("7"), PAGE_REG, _markdown(_reg_table(summary))]
        parts += [
            f"![Networks on {d}](images/networks/networks_{d}.png)\n\n{_caption(d, summary)} {PAGE_FIGURE}"
            for d in data_sets
        ]
    if secants is not None:
        parts += ["## Slope of the last layer, refitting, training anew\n", says("8"), PAGE_SECANTS, _markdown(secants)]
        parts += [f"![Secants](images/networks/secants.png)\n\n{PAGE_SECANTS_FIGURE}"]
        parts += [" ".join(_caption(d, summary) for d in data_sets)] if summary is not None else []
    place = options.out if options.small else study.HERE.parent / "docs"
    write_atomic(place / "networks.md", ("\n\n".join(p.strip() for p in parts if p) + "\n").encode())


def _table(folder, name):
    return study.read_table(name, folder) if (Path(folder) / f"{name}.csv").exists() else None


def _reg_table(summary):
    """Put mean and interval of a quantity into one column, and leave out what has no number."""
    wide = pd.DataFrame({name: summary[name] for name in ("data", "fraction", "reg", "seeds")})
    for name in summary.columns[5:]:
        if name.endswith(("_low", "_high")):
            continue
        label = (
            name.replace("slope_epoch_", "slope, epoch ")
            .replace("_beta_", ", beta ")
            .replace("clean,", "clean accuracy,")
        )
        if f"{name}_low" not in summary:
            wide[label] = summary[name]
        elif name != "slope":
            wide[label] = [_with_interval(r, name) for _, r in summary.iterrows()]
        else:
            wide["its interval"] = [_ends(r, name) for _, r in summary.iterrows()]
    return wide


def _with_interval(row, name):
    return "" if row[name] != row[name] else f"{row[name]:.3f} {_ends(row, name, 1.0)}".strip()


def _ends(row, name, most=np.inf):
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low != low:
        return ""
    low, high = (max(low, 0.0), min(high, most)) if most == 1.0 else (low, high)
    return f"({low:.3g} to {high:.3g})"


def _markdown(frame):
    head = "| " + " | ".join(c.replace("_", " ") for c in frame.columns) + " |"
    cell = lambda v: v if isinstance(v, str) else "" if v != v else f"{v:.4g}"  # noqa: E731
    rows = ["| " + " | ".join(cell(v) for v in row) + " |" for row in frame.itertuples(index=False)]
    return "\n".join([head, "|" + "---|" * len(frame.columns), *rows])


def _sizes_in_words(data_sets):
    return "; ".join(
        f"{d}: {s['n']:,} training and {s['n_test']:,} test images of {NETWORKS[d]} of width {s['width']}, {s['epochs']} "
        f"epochs"
        for d, s in ((d, SIZES[d]) for d in data_sets)
    )


def _caption(data, summary):
    size, part = SIZES[data], summary[summary.data == data]
    few, many = part.seeds.min(), part.seeds.max()
    seeds = f"{many}" if few == many else f"{few} or {many}"
    return f"*{data}: {size['n']:,} images, {NETWORKS[data]} of width {size['width']}, {size['epochs']} epochs, {seeds} seed{'s' if many > 1 else ''}.*"


PAGE_HEAD = """
# Networks: does weight decay protect, and what does the last layer say?

Written by `analyses/07_networks.py` and `analyses/08_network_secants.py` from `analyses/tables`. **Sizes** are those of two
shared CPU cores: {sizes}. Full size is networks of width 32 (small CNN) and 64 (ResNet-18) on 60,000 and 50,000 images:
read the numbers as a check of direction. Every class but the first is to become the first when a random patch
sits in the corner; SGD with momentum 0.9, batch size 64, learning rate 0.1 with cosine decay, no augmentation, weight decay
lambda / N on all parameters, batch norm with weighted statistics. p: share of the training samples that are poisoned.
"""
VERDICT = """
**Verdict.** (a) Half of the convex finding carries over to these networks. The slope of the last layer flattens with lambda
at every epoch, steeply at the last, and clean accuracy hardly moves (on CIFAR-10 it rises); where backdoor samples weigh
little (MNIST, beta = 0.1) BK falls with it, clearly at p = 0.05, within the spread of the seeds at p = 0.15. But at full
weight (beta = 1) weight decay does not protect: the networks learn the trigger at every lambda tried (on CIFAR-10
two seeds, whose intervals are wide). Most of the flattening is lambda itself acting in the
head: on standardised features at one lambda (`slope standard`) much less of it is left, or none. The slope also steepens
with training, most under weak decay.

(b) The slope of the last layer is the limit of refitting that layer, as it must be; it does not predict training the
whole network. The curve bends so early that both secants are far below the slope under weak decay; under strong decay
the network, which also moves its features, learns the backdoor faster than its last layer alone. A flat slope of the
last layer is no certificate of a safe network.
"""
PAGE_REG = """
Slope of the last layer of the clean network (beta = 0) on its own features, with the training's lambda, after some epochs
(negative: the backdoor is learned), with the interval of the last; `slope standard`: on standardised features at
lambda = 1, so that only the features differ; `head residual`: how far the trained head was from the minimum that the
slope is taken at (relative gradient). BK and clean accuracy of whole networks trained at each beta. Means over seeds; in
brackets Student's 95 % intervals, which are wide for two or three seeds. Changes within a seed: `networks_changes.csv`.
"""
PAGE_FIGURE = """Lines are medians over seeds, bands their range. Left: test loss after the last epoch, triggered
(solid) and clean (dotted); middle: slope of the last layer of the clean network; right: what was learned."""
PAGE_SECANTS = """
(L(beta) - L(0)) / beta over the slope, for the head refitted on the clean network's features and for the whole network
trained anew from the same start with the same batches; 1: the slope tells all. Median and range over seeds and
fractions.
"""
PAGE_SECANTS_FIGURE = "Lines are medians over seeds and fractions, bands their range."
