"""How many poisons does a network need, attack by attack, and do slope and curve of the last layer foresee it?"""

# %% Question
import attack_study as attacks
import numpy as np
import pandas as pd
import study

import learningcurves as lc
from learningcurves.analysis.relate import rank_correlation

QUESTION = __doc__
REG = 1.0  # lambda of the head, on standardised features
JUMP = 0.5  # the count at which ASR passes this is where the jump is


# %% Cells: an attack, a number of poisons, a seed
def cells_of(data_sets):
    """Seeds outermost: an interrupted study has whole seeds."""
    return [
        {"data": data, "seed": seed, "attack": attack, "count": count}
        for data in data_sets
        for seed in attacks.SIZES[data]["seeds"]
        for attack in attacks.ATTACKS
        for count in attacks.counts_of(data, attack, seed)
    ]


def measure(cell):
    """Train on the poisons; and, on the clean network of the same seed, slope and curve of the last layer."""
    problem = attacks.problem_of(cell["data"], cell["attack"], cell["count"], cell["seed"])
    clean = attacks.clean_network(cell["data"], cell["seed"])
    slope = lc.backdoor_slope(clean, problem, reg=REG)
    curve = lc.learning_curve(clean, problem, beta=[0.0, 1.0], reg=REG)
    module = attacks.backdoored(cell["data"], cell["attack"], cell["count"], cell["seed"], problem)
    facts = problem.provenance
    yield {
        **attacks.rates(module, problem),
        "fraction_of_all": facts["fraction_of_all"],
        "fraction_of_target_class": facts["fraction_of_target_class"],
        "slope": slope.value,
        "head_bk_floor": float(curve.bk[0]),
        "head_bk": float(curve.bk[-1]),
        "head_loss_0": float(curve.loss_triggered[0]),
        "head_loss_1": float(curve.loss_triggered[-1]),
    }


# %% What each count brings
def by_count(table):
    """Return rates over seeds with Wilson's intervals, the spread over seeds, and medians of slope and head."""
    rows = []
    for (data, attack, count), group in table.groupby(["data", "attack", "count"]):
        rows.append(
            {"data": data, "attack": attack, "count": count, "seeds": len(group)}
            | {k: v for name in ("asr", "no_trigger", "ra", "acc") for k, v in attacks.pooled(group, name).items()}
            | attacks.least_and_most(group)
            | {c: group[c].median() for c in ("slope", "head_bk", "head_bk_floor")}
        )
    return pd.DataFrame(rows)


def jump(group):
    """Return the last count below `JUMP` and the first from which ASR stays at or above it (NaN where it does not)."""
    group = group.sort_values("count")
    above = (group.asr >= JUMP).to_numpy()
    stays = np.flip(np.logical_and.accumulate(np.flip(above)))
    first = int(np.argmax(stays)) if stays.any() else len(group)
    counts = group["count"].to_numpy(float)
    return (counts[first - 1] if first else np.nan), (counts[first] if first < len(group) else np.nan)


def steepness(group, count):
    """Return the median |slope| of the clean network's last layer at a count."""
    return float(group.slope[group["count"] == count].abs().median())


RANKS = {"slope": "rank_slope", "head_bk": "rank_head", "count": "rank_count"}


def relations(table, summary):
    """Return where the jump is, and how slope, head at beta = 1 and count rank the networks, by attack and in all.

    Spearman's correlations with ASR, with percentile bootstrap intervals over networks; the slope's by its size.
    """
    rows = []
    for data in summary.data.unique():
        part = table[table.data == data].assign(asr=lambda t: t.asr_hits / t.asr_n, slope=lambda t: t.slope.abs())
        for attack in [*part.attack.unique(), "all"]:
            group = part if attack == "all" else part[part.attack == attack]
            ours = summary[(summary.data == data) & (summary.attack == attack)]
            low, high = (np.nan, np.nan) if attack == "all" else jump(ours)
            row = {"data": data, "attack": attack, "n": len(group), "below": low, "above": high}
            row |= {"slope_below": steepness(group, low), "slope_above": steepness(group, high)}
            for column, name in RANKS.items():
                found = rank_correlation(group, column, "asr")
                row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
            rows.append(row)
    return pd.DataFrame(rows)


def rank_words(row, name):
    return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"


def finding(summary, related):
    words = []
    for row in related.to_dict("records"):
        data, attack, below, above = (row[name] for name in ("data", "attack", "below", "above"))
        if attack == "all":
            words.append(
                f"{data}, all attacks together ({row['n']} networks): rank correlation with ASR {rank_words(row, 'rank_slope')} "
                f"for the slope of the clean network's last layer, {rank_words(row, 'rank_head')} for the refitted head at "
                f"beta = 1, {rank_words(row, 'rank_count')} for the count alone (bootstrap over networks)."
            )
            continue
        group = summary[(summary.data == data) & (summary.attack == attack)].sort_values("count")
        last = group.iloc[-1]
        steep = "slope of the clean last layer"
        if above != above:
            where = f"never passes {JUMP:g} ({steep} at most {group.slope.abs().max():.3g} nats in size)"
        elif below != below:
            where = (
                f"is above {JUMP:g} from {above:.0f} poisons on ({steep} {row['slope_above']:.3g} nats in size there)"
            )
        else:
            where = (
                f"passes {JUMP:g} between {below:.0f} and {above:.0f} poisons ({steep} {row['slope_below']:.3g} and "
                f"{row['slope_above']:.3g} nats in size there)"
            )
        words.append(
            f"{data}, {attack}: ASR {where}; {last.asr:.3f} [{last.asr_low:.3f}, {last.asr_high:.3f}] at "
            f"{last['count']:.0f} (no-trigger rate {last.no_trigger:.3f}, ACC {last.acc:.3f})."
        )
    return words


# %% Figure: ASR over count; what the last layer foresees
def draw(table, summary, data):
    from learningcurves.plotting.style import PAGE, figure, group_styles, local, outside_legend

    table, summary = table[table.data == data], summary[summary.data == data]
    with local():
        made, axes = figure(3, 1, width=PAGE, aspect=0.95)
        handles = draw_panels(axes[0], table, summary, group_styles(attacks.ATTACKS))
        outside_legend(made, axes[0, 0], handles)
    return made


def draw_panels(axes, table, summary, styles):
    """Draw ASR over count, over the slope and over the refitted head; return the handles of the legend."""
    left, middle, right = axes
    handles = []
    for attack, style in styles.items():
        group = summary[summary.attack == attack].sort_values("count")
        points = table[table.attack == attack]
        asr = points.asr_hits / points.asr_n
        look = style.line(label=attack)
        handles.append(attacks.draw_rate(left, group["count"], group, "asr", look))
        left.fill_between(group["count"], group.asr_least, group.asr_most, color=style.color, alpha=0.18, linewidth=0)
        dots = {"color": style.color, "marker": style.marker, "linestyle": "none", "markersize": 3}
        middle.plot(np.abs(points.slope), asr, **dots)
        right.plot(points.head_bk, asr, **dots)
    floor = left.axhline(summary.no_trigger.mean(), color="#333333", linestyle=":", linewidth=0.8, label="no trigger")
    left.set(xscale="log", xlabel="poisons (count)", ylabel="attack success rate", ylim=(-0.03, 1.03))
    counts = sorted(summary["count"].unique())
    if len(counts) < 5:  # decades alone would say little
        left.set_xticks(counts, [f"{k}" for k in counts])
    middle.set(xscale="log", xlabel="|slope| of the clean last layer (nats)", ylim=(-0.03, 1.03))
    for ax in (left, middle):  # less than two decades would label every minor tick
        ax.xaxis.set_minor_formatter("")
    right.set(xlabel="BK of the refitted head at β = 1", ylim=(-0.03, 1.03), xlim=(-0.03, 1.03))
    return [*handles, floor]


# %% Run, tables, figures, finding
if __name__ == "__main__":
    options = attacks.arguments(QUESTION, "09")
    table = attacks.finished(study.run(cells_of(options.data), measure, options.out, options.n_jobs))
    summary = by_count(table)
    related = relations(table, summary)
    study.write_table(table, options.tables, "attack_counts_networks", digits=4)
    study.write_table(summary, options.tables, "attack_counts", digits=4)
    study.write_table(related, options.tables, "attack_counts_relations", digits=3)
    for data in summary.data.unique():
        attacks.save_figure(draw(table, summary, data), options, f"counts_{data}")
    print(*finding(summary, related), sep="\n")
