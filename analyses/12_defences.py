"""What does a defence do to the learning curve: its slope, its end, and how few poisons bring the backdoor back?"""

# %% Question
import attack_study as attacks
import defence_study as defences
import numpy as np
import pandas as pd
import study

from learningcurves.defences.anp import THRESHOLDS

QUESTION = __doc__
ALPHAS = (0.0, 0.2, 0.6, 1.0)
ALPHA_ITERATIONS = {"digits": 100, "mnist-wide": 500, "cifar10": 500, "cifar10-ten": 1000, "cifar10-full": 1000}


# %% Cells: an attack, a seed and a defence; or an attack, a seed and the weight of ANP's clean loss
def cells_of(data_sets):
    return defences.cells_of(data_sets, defence=tuple(defences.DEFENCES))


def measure(cell):
    """Score the network; take slope and curve of its last layer; train it again on a few poisons."""
    data, attack, seed, defence = cell["data"], cell["attack"], cell["seed"], cell["defence"]
    after, facts = defences.DEFENCES[defence](data, attack, seed)
    yield from defences.measured(after, data, attack, seed, compare=defence not in defences.CONTROLS, **facts)
    if defence == "anp":
        problem, _, _ = defences.attacked(data, attack, seed)
        for found in defences.pruned(data, attack, seed).oracle(problem, THRESHOLDS).to_dict("records"):
            yield {"what": "oracle", **found}


def measure_alpha(cell):
    """Learn the masks anew at each alpha and look at every threshold: an oracle, as in the published plots."""
    data, attack, seed, alpha = cell["data"], cell["attack"], cell["seed"], cell["alpha"]
    problem, _, _ = defences.attacked(data, attack, seed)
    found = defences.pruned(data, attack, seed, alpha=alpha, iterations=ALPHA_ITERATIONS[data])
    yield from found.oracle(problem).assign(alpha=alpha, chosen=found.threshold).to_dict("records")


def measure_numbers(cell):
    """Cut the smallest masks one share of the neurons after the other: an oracle, and what held-out accuracy chooses."""
    data, attack, seed = cell["data"], cell["attack"], cell["seed"]
    problem, _, _ = defences.attacked(data, attack, seed)
    found = defences.pruned_by_number(data, attack, seed)
    numbers = found.curve.n_pruned.tolist()
    held_out = found.curve.acc.rename("acc_held_out")
    table = found.oracle(problem, numbers=numbers).join(held_out)
    yield from table.assign(n_units=found.units.n, chosen=len(found.pruned)).to_dict("records")


# %% Tables
CHANGES = ("d_asr", "d_acc", "d_ra", "der", "rir", "n_pruned", "n_units", "threshold")
WORTH = 0.05  # accuracy that the oracle may give away


def by_defence(table, numbers=None):
    """Return one row a data set, attack and defence; `slope_before` is that of the attacked network."""
    keys, rows = ["data", "attack", "defence"], []
    parts = {what: dict(list(group.groupby(keys))) for what, group in table.groupby("what")}
    for key, group in table[table.what == "scores"].groupby(keys, sort=False):
        curve, relearn = parts["curve"][key], parts["relearn"][key]
        before = parts["scores"].get((*key[:2], "none"), group)
        row = {**dict(zip(keys, key, strict=True)), "seeds": len(group)}
        row |= {name: int(group[name].median()) for name in ("n_poison", "n_clean")}
        for name in ("asr", "no_trigger", "ra", "acc"):
            row |= attacks.pooled(group, name)
        row |= attacks.least_and_most(group)
        row |= {"slope_before": before.slope.median(), "slope": group.slope.median()}
        row |= {"slope_relative": group.slope_relative.median()}
        row |= {name: group[name].median() for name in CHANGES if name in group}
        row |= {"poisons_to_relearn": needed(relearn), "most_tried": relearn["count"].max()}
        row |= {f"head_bk_at_{b:g}": curve[curve.beta == b].bk.median() for b in (0.0, 1.0)}
        row |= {"head_loss_at_0": curve[curve.beta == 0].loss_triggered.median()}
        oracle = parts.get("oracle", {}).get(key)
        if key[2] == "anp by number" and numbers is not None:
            oracle = numbers[(numbers.data == key[0]) & (numbers.attack == key[1])]
        rows.append(row | cheapest(oracle, before))
    return pd.DataFrame(rows)


def cheapest(oracle, before):
    """Return the lowest ASR at any threshold or number that costs at most `WORTH` of accuracy, by an oracle."""
    if oracle is None or not len(oracle):
        return {}
    over = "n_pruned" if oracle.threshold.isna().all() else "threshold"
    means = oracle.groupby(over)[["acc", "asr", "n_pruned"]].mean()
    found = means.loc[means[means.acc >= attacks.pooled(before, "acc")["acc"] - WORTH].asr.idxmin()]
    return {"oracle_n_pruned": found.n_pruned, "oracle_asr": found.asr, "oracle_acc": found.acc}


def needed(group, level=0.5):
    """Return the smallest number of poisons from which ASR, in the mean of seeds, stays at `level` or above."""
    asr = (group.asr_hits / group.asr_n).groupby(group["count"]).mean()
    above = np.flip(np.logical_and.accumulate(np.flip((asr >= level).to_numpy())))
    return float(asr.index[int(np.argmax(above))]) if above.any() else np.nan


def finding(summary):
    words = []
    for row in summary.itertuples():
        back = (
            "more than were tried"
            if row.poisons_to_relearn != row.poisons_to_relearn
            else f"{row.poisons_to_relearn:.0f}"
        )
        words.append(
            f"{row.data}, {row.attack}, {row.defence}: ASR {row.asr:.3f} [{row.asr_low:.3f}, {row.asr_high:.3f}], ACC "
            f"{row.acc:.3f}, RA {row.ra:.3f}; last-layer slope {row.slope:.3g} ({row.slope_relative:.3g} of the "
            f"loss), a head refitted on clean samples alone still has BK {row.head_bk_at_0:.2f}; poisons for ASR of one half again: {back}."
        )
    return words


# %% Figures: rates, curve before and after, and re-learning, an attack a row; ANP over threshold and alpha
RATES = {"acc": "clean accuracy", "asr": "ASR", "ra": "right answer under the trigger (RA)"}


def draw(table, data):
    from learningcurves.plotting.style import PAGE, figure, group_styles, local, outside_legend

    table = table[table.data == data]
    names = [name for name in defences.DEFENCES if name in set(table.defence)]
    shown = list(table.attack.unique())
    with local():
        made, axes = figure(3, len(shown), width=PAGE, aspect=0.8)
        known = group_styles(names)
        styles = {name: known[name] for name in names}
        handles = [
            draw_row(row, table[table.attack == attack], attack, styles)
            for row, attack in zip(axes, shown, strict=True)
        ]
        outside_legend(made, axes[0, 0], handles[0])
    return made


def draw_row(axes, table, attack, styles):
    """Draw one attack: last-layer curve, slope, re-learning; return one line a defence."""
    (curve_axes, slope_axes, again_axes), handles = axes, []
    for i, (defence, style) in enumerate(styles.items()):
        group = table[table.defence == defence]
        if group.empty:  # not measured yet
            continue
        curve = group[group.what == "curve"].groupby("beta").loss_triggered.median()
        handles += curve_axes.plot(curve.index, curve, **style.line(label=defence))
        scores = group[group.what == "scores"]
        slope_axes.plot([i] * len(scores), -scores.slope, **style.line(linestyle="none"))
        again = group[group.what == "relearn"]
        rows = pd.DataFrame([{"count": k, **attacks.pooled(g, "asr")} for k, g in again.groupby("count")])
        attacks.draw_rate(again_axes, rows["count"], rows, "asr", style.line())
    curve_axes.set(xlabel="β", ylabel="triggered loss (nats)", ylim=(0, 1.2 * curve_axes.get_ylim()[1]))
    curve_axes.text(0.97, 0.93, attack, transform=curve_axes.transAxes, ha="right", va="top")
    curve_axes.set_xscale("symlog", linthresh=1e-3)
    curve_axes.set_xlim(-2e-4, 1.3)
    curve_axes.set_xticks([0, 1e-2, 1], ["0", "0.01", "1"])
    slope_axes.set(ylabel="−slope, last layer (nats)", yscale="log", xlim=(-0.5, len(styles) - 0.5))
    slope_axes.set_xticks(range(len(styles)), [d.replace(" ", "\n", 1) for d in styles], rotation=90)
    most = table["count"].max()
    again_axes.set(xlabel="poisons in re-training (count)", ylabel="ASR", ylim=(-0.03, 1.03))
    again_axes.set_xscale("symlog", linthresh=1)
    again_axes.set_xlim(-0.3, most * 1.3)
    ticks = [k for k in (0, 1, 10, 100) if k <= most]
    again_axes.set_xticks(ticks, map(str, ticks))
    return handles


def draw_rates(summary, data):
    """Draw accuracy, ASR and RA of each defence with Wilson's intervals, an attack a panel; thin: ASR of single networks."""
    from learningcurves.plotting.style import PAGE, figure, group_styles, local, outside_legend

    summary = summary[summary.data == data]
    shown = list(summary.attack.unique())
    with local():
        width = min(PAGE, 0.36 * PAGE * len(shown))
        made, axes = figure(len(shown), 1, width=width, aspect=1.1, sharey=True)
        styles, order = group_styles(RATES), list(summary.defence.unique())
        axes[0, 0].set(ylabel="share of test samples", ylim=(-0.03, 1.03))
        for ax, attack in zip(axes[0], shown, strict=True):
            group, handles = summary[summary.attack == attack], []
            for i, (name, label) in enumerate(RATES.items()):
                look = styles[name].line(label=label, linestyle="none")
                x = [order.index(defence) + 0.15 * (i - 1) for defence in group.defence]
                handles.append(attacks.draw_rate(ax, x, group, name, look))
                if name == "asr" and (group.seeds > 1).any():
                    ax.vlines(x, group.asr_least, group.asr_most, color=styles[name].color, linewidth=0.8)
            ax.set_xticks(range(len(order)), [d.replace(" ", "\n", 1) for d in order], rotation=90)
            ax.set_xlim(-0.5, len(order) - 0.5)
            ax.set_xlabel(attack)
        outside_legend(made, axes[0, 0], handles)
    return made


def draw_anp(table, numbers, alphas, data):
    """Draw ASR and accuracy over the threshold and over the share of neurons that is cut, and trade-offs by alpha."""
    from learningcurves.plotting.style import PAGE, figure, group_styles, local, outside_legend

    oracle = table[(table.data == data) & (table.what == "oracle")]
    numbers, alphas = (None if t is None else t[t.data == data] for t in (numbers, alphas))
    shown = [t is not None and len(t) > 0 for t in (oracle, numbers, alphas)]
    with local():
        made, (axes,) = figure(sum(shown), 1, width=PAGE, aspect=(0.45, 0.7, 0.95)[sum(shown) - 1])
        values = sorted(alphas.alpha.unique()) if shown[2] else []
        styles, rest = group_styles([*oracle.attack.unique(), *values]), list(axes)  # no look stands for two things
        handles = draw_over(rest.pop(0), oracle, "threshold", styles)
        axes[0].set(xlabel="threshold (dotted: clean accuracy)", ylabel="share of test samples")
        if shown[1]:
            ax = rest.pop(0)
            draw_over(ax, numbers.assign(share=100 * numbers.n_pruned / numbers.n_units), "share", styles)
            ax.set_xlabel("neurons cut (%; dotted: clean accuracy)")
        if shown[2]:
            for alpha in values:
                group = alphas[alphas.alpha == alpha].groupby("threshold")[["acc", "asr"]].median()
                look = styles[alpha].line(label=f"α = {alpha:g}", markersize=2.5)
                handles += rest[0].plot(1 - group.acc, group.asr, **look)
            rest[0].set(xlabel=f"clean error, {alphas.attack.iloc[0]}", ylabel="ASR (oracle)", ylim=(-0.03, 1.03))
        outside_legend(made, axes[0], handles)
    return made


def draw_over(ax, table, x, styles):
    """Draw ASR and, dotted, clean accuracy over a column, a line an attack; return the lines of ASR."""
    handles = []
    for attack in table.attack.unique():
        style = styles[attack]
        group = table[table.attack == attack].groupby(x)[["acc", "asr"]].median()
        handles += ax.plot(group.index, group.asr, **style.line(label=f"{attack}: ASR (oracle)", markersize=2.5))
        ax.plot(group.index, group.acc, color=style.color, linestyle=":")
    ax.set_ylim(-0.03, 1.03)
    return handles


# %% Run, tables, figures, finding
def written(options, name, cells, measure, folder):
    """Run cells into a folder of their own, write their table and return it; None where there is nothing yet."""
    table = study.run(cells, measure, options.out / folder, options.n_jobs)
    table = table[table.status == "ok"] if len(table) else None
    if table is not None:
        study.write_table(table, options.tables, name, digits=4)
    return table


if __name__ == "__main__":
    options = attacks.arguments(QUESTION, "12")
    table = attacks.finished(study.run(cells_of(options.data), measure, options.out, options.n_jobs))
    study.write_table(table, options.tables, "defences_networks", digits=4)
    numbers = written(options, "defences_numbers", defences.cells_of(options.data), measure_numbers, "numbers")
    summary = by_defence(table, numbers)
    study.write_table(summary, options.tables, "defences", digits=4)
    cells = defences.cells_of([d for d in options.data if d in ALPHA_ITERATIONS], ("badnets",), alpha=ALPHAS)
    alphas = written(options, "defences_alpha", cells, measure_alpha, "alpha")
    for data in summary.data.unique():
        attacks.save_figure(draw_rates(summary, data), options, f"rates_{data}")
        attacks.save_figure(draw(table, data), options, f"defences_{data}")
        if (table[table.data == data].what == "oracle").any():
            attacks.save_figure(draw_anp(table, numbers, alphas, data), options, f"anp_{data}")
    print(*finding(summary), sep="\n")
