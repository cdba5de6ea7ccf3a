"""How many poisons does a network need, attack by attack, and do slope and curve of the last layer foresee it?"""

# %% Question
import attack_study as attacks
import numpy as np
import pandas as pd
import study

import learningcurves as lc

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
        asr = group.asr_hits / group.asr_n
        rows.append(
            {"data": data, "attack": attack, "count": count, "seeds": len(group)}
            | {k: v for name in ("asr", "no_trigger", "ra", "acc") for k, v in attacks.pooled(group, name).items()}
            | {"asr_least": asr.min(), "asr_most": asr.max()}
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


def relations(table, summary):
    """Return where the jump is, and how slope and head at beta = 1 rank the counts, attack by attack and in all."""
    rows = []
    for data in summary.data.unique():
        part = table[table.data == data].assign(asr=lambda t: t.asr_hits / t.asr_n)
        for attack in [*part.attack.unique(), "all"]:
            group = part if attack == "all" else part[part.attack == attack]
            low, high = (
                (np.nan, np.nan)
                if attack == "all"
                else jump(summary[(summary.data == data) & (summary.attack == attack)])
            )
            rows.append(
                {
                    "data": data,
                    "attack": attack,
                    "n": len(group),
                    "below": low,
                    "above": high,
                    "rank_slope": attacks.rank(-group.slope, group.asr),
                    "rank_head": attacks.rank(group.head_bk, group.asr),
                    "rank_count": attacks.rank(group["count"], group.asr),
                }
            )
    return pd.DataFrame(rows)


def finding(summary, related):
    words = []
    for row in related.itertuples():
        if row.attack == "all":
            words.append(
                f"{row.data}, all attacks together ({row.n} networks): rank correlation with ASR {row.rank_slope:.2f} for the "
                f"slope of the clean network's last layer, {row.rank_head:.2f} for the refitted head at beta = 1, "
                f"{row.rank_count:.2f} for the count alone."
            )
            continue
        group = summary[(summary.data == row.data) & (summary.attack == row.attack)].sort_values("count")
        last = group.iloc[-1]
        where = (
            f"passes {JUMP:g} between {row.below:.0f} and {row.above:.0f} poisons"
            if row.above == row.above and row.below == row.below
            else f"is above {JUMP:g} from {row.above:.0f} poisons on"
            if row.above == row.above
            else f"never passes {JUMP:g}"
        )
        words.append(
            f"{row.data}, {row.attack}: ASR {where}; {last.asr:.3f} [{last.asr_low:.3f}, {last.asr_high:.3f}] at "
            f"{last['count']:.0f} (no-trigger rate {last.no_trigger:.3f}, ACC {last.acc:.3f})."
        )
    return words


# %% Figure: ASR over count; what the last layer foresees
def draw(table, summary, data):
    from learningcurves.plotting.style import PAGE, figure, group_styles, local, outside_legend

    with local():
        return _draw(
            table, summary, data, figure(3, 1, width=PAGE, aspect=0.95), group_styles(attacks.ATTACKS), outside_legend
        )


def _draw(table, summary, data, drawing, styles, outside_legend):
    table, summary = table[table.data == data], summary[summary.data == data]
    made, axes = drawing
    left, middle, right = axes[0]
    handles = []
    for attack, style in styles.items():
        group = summary[summary.attack == attack].sort_values("count")
        points = table[table.attack == attack]
        asr = points.asr_hits / points.asr_n
        look = style.line(label=attack)
        handles += left.plot(group["count"], group.asr, **look)
        left.fill_between(group["count"], group.asr_least, group.asr_most, color=style.color, alpha=0.18, linewidth=0)
        left.vlines(group["count"], group.asr_low, group.asr_high, color=style.color)
        dots = {"color": style.color, "marker": style.marker, "linestyle": "none", "markersize": 3}
        middle.plot(np.abs(points.slope), asr, **dots)
        right.plot(points.head_bk, asr, **dots)
    floor = left.axhline(summary.no_trigger.mean(), color="#333333", linestyle=":", linewidth=0.8, label="no trigger")
    left.set(xscale="log", xlabel="poisons (count)", ylabel="attack success rate", ylim=(-0.03, 1.03))
    middle.set(xscale="log", xlabel="|slope| of the clean last layer (nats)", ylim=(-0.03, 1.03))
    right.set(xlabel="BK of the refitted head at β = 1", ylim=(-0.03, 1.03), xlim=(-0.03, 1.03))
    outside_legend(made, left, [*handles, floor])
    return made


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
