"""Does SODA tell backdoored networks from clean ones, and do its repairs bring the right answers back?"""

# %% Question
import numpy as np
import soda_study as soda
import soda_tables as tables
import study
import torch
from matplotlib.lines import Line2D

import learningcurves as lc
from learningcurves.defences.soda_index import find_victim
from learningcurves.errors import SolveFailed
from learningcurves.plotting import save
from learningcurves.plotting.style import COLUMN, INK, PAGE, PALETTE, figure, local, outside_legend

QUESTION = __doc__
RIGHT = {"color": PALETTE["red"], "marker": "o", "markersize": 3.5}
WRONG = {"color": PALETTE["blue"], "marker": "x", "markersize": 4}
SHOWN = "mnist-colour"  # whose first over-sampled network the page shows a report of
REPAIRS = ("paper", "paper top", "code", "last_layer", "last layer anew", "smoothing", "finetune")


# %% Cells: images, a kind of network, a seed
def measure(cell):
    network = soda.network_of(cell)
    victim, target = soda.pair_of(cell["data"], cell["seed"])
    clean = soda.clean_part(cell["data"], cell["seed"])
    # the same samples in every kind, so that only the features differ
    slope = soda.head_slope(network, soda.attack(cell["data"], "flip", cell["seed"]))
    rows = [{"row": "network", **soda.scores_of(network, cell), **slope, "victim": victim, "target": target}]
    for offset in ("constant", "spread"):
        report = lc.detect_soda(network, clean, offset=offset)
        calibrated = lc.detect_soda(network, clean, offset=offset, fpr=0.05)
        rows.append(
            {
                "row": "detection",
                "offset": offset,
                "index": report.index[report.target],
                "index_true": report.index[target],
                "flagged": report.verdict == "backdoored",
                "flagged_calibrated": calibrated.verdict == "backdoored",
                "threshold_calibrated": calibrated.threshold,
                "target_right": report.target == target,
                "pair_right": (report.victim, report.target) == (victim, target),
                "victim_rule": report.victim_evidence.rule,
                # whom the activation names where the target is known: to be read beside the clean networks
                "victim_of_target": find_victim(
                    report.activation[:, target], target, reverse=report.activation[target]
                ).label
                == victim,
                "seconds": report.seconds,
            }
        )
    if cell["kind"] in ("oversampled", "flip"):
        rows += [repaired(network, cell, clean, victim, target, name, slope) for name in REPAIRS]
    return rows


def repaired(network, cell, clean, victim, target, name, slope):
    """Repair with the true pair given, so that detection and repair are judged apart."""
    facts = {"row": "repair", "repair": name}
    try:
        if name in ("paper", "paper top", "code", "last_layer"):  # "paper top": the top share instead of MAD outliers
            report = lc.detect_soda(network, clean)
            options = {"mode": name.split()[0], "select": "top" if "top" in name else None, "seed": cell["seed"]}
            found = lc.repair_soda(network, report, clean, target=target, victim=victim, **options)
            facts |= {"reached": found.reconstruction.n_reached, "neurons": len(found.outstanding.neurons)}
        elif name == "last layer anew":
            found = lc.defend_last_layer(network, clean)
        elif name == "smoothing":
            found = lc.defend_smoothing(network, clean, sigma=0.1, n_draws=10)
        else:
            found = lc.defend_finetune(network, clean, progress=False)
    except SolveFailed as error:
        return {**facts, "status": error.status.name.lower()}
    module = found.module
    if name == "smoothing":  # votes have no linear head
        slope = {}
    elif not same_features(network, module):
        slope = soda.head_slope(module, soda.attack(cell["data"], "flip", cell["seed"]))
    return {**facts, **soda.scores_of(module, cell), **slope, "seconds": found.seconds}


def same_features(network, module):
    """Whether all but the head is bit for bit what it was: the slope of the last layer is then the same number."""
    before, after = network.state_dict(), module.state_dict()
    return all(torch.equal(before[n], after[n]) for n in before if not n.startswith("head."))


# %% Finding
def finding(summary):
    words = []
    for (data, kind, offset), group in summary.groupby(["data", "kind", "offset"], sort=False):
        said = [f"{r.event} {r.hits}/{r.n} [{r.low:.2f}, {r.high:.2f}]" for r in group.itertuples()]
        words.append(f"{data}, {kind}, offset {offset}: {', '.join(said)}")
    return words


# %% Figure
def draw(table):
    """Index of the first class, one point a network, by kind; thresholds as lines."""
    found = table[(table.row == "detection") & (table.offset == "constant")]
    sets = list(found.data.unique())
    columns = 2 if len(sets) == 4 else min(len(sets), 3)
    with local():
        made, axes = figure(columns, -(-len(sets) // columns), width=PAGE if columns > 1 else COLUMN, aspect=0.95)
        for ax in axes.flat[len(sets) :]:
            ax.remove()
        for ax, data in zip(axes.flat, sets, strict=False):
            draw_panel(ax, found[found.data == data])
            ax.set_title(data, fontsize=7.5)
        handles = [
            Line2D([], [], linestyle="none", label="the target", **RIGHT),
            Line2D([], [], linestyle="none", label="another class", **WRONG),
            Line2D([], [], color=INK, linestyle="--", label="published threshold −2"),
            Line2D([], [], color=INK, linestyle=":", label="threshold for 5 %"),
        ]
        outside_legend(made, axes[0, 0], handles)
    return made


def draw_panel(ax, part):
    for i, kind in enumerate(soda.KINDS):
        rows = part[part.kind == kind]
        place = i + (np.linspace(-0.2, 0.2, len(rows)) if len(rows) > 1 else np.zeros(len(rows)))
        right = rows.target_right.astype(bool).to_numpy()
        for mask, style in ((right, RIGHT), (~right, WRONG)):
            ax.plot(place[mask], rows["index"].to_numpy()[mask], linestyle="none", **style)
    ax.axhline(-2, color=INK, linestyle="--", linewidth=0.8)
    ax.axhline(-part.threshold_calibrated.iloc[0], color=INK, linestyle=":", linewidth=0.9)
    ax.set(xticks=range(len(soda.KINDS)), xlim=(-0.5, 3.5), ylabel="smallest index")
    ax.set_yscale("symlog", linthresh=6)  # a few networks are far out
    places = [0, -2, -4, -6, -10, -20, -40]
    ax.set_yticks(places, [str(k).replace("-", "−") for k in places])
    ax.set_ylim(min(1.2 * part["index"].min(), -6), 0)
    ax.set_xticklabels(["over-\nsampled", "flip", "clean", "over-\nrepr."], fontsize=6.5)


# %% Run, tables, figure, finding
if __name__ == "__main__":
    options = soda.arguments(QUESTION, "21", data=tuple(soda.SIZES))
    table = study.run(soda.cells_of(options.pairs), measure, options.out, options.n_jobs)
    study.write_table(table, options.tables, "soda_networks")
    summary = tables.detection(table)
    study.write_table(summary, options.tables, "soda_detection", digits=3)
    for name in ("attacks", "separation", "repairs", "slopes", "link"):
        study.write_table(getattr(tables, name)(table), options.tables, f"soda_{name}", digits=3)
    folder = options.out if options.small else study.HERE.parent / "docs" / "images" / "defences"
    save(draw(table), folder / "soda_index", formats=["png"], dpi=110)
    shown = SHOWN if SHOWN in options.pairs else options.pairs[0]
    first = soda.cells_of([shown], ("oversampled",))[0]
    report = lc.detect_soda(soda.network_of(first), soda.clean_part(first["data"], first["seed"]), fpr=0.05)
    save(report.plot().figure_, folder / "soda_report", formats=["png"], dpi=110)
    print(*finding(summary), report, sep="\n")
