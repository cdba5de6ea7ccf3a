"""Does balanced accuracy fall, and attack success with it, as the semantic loss weighs more?"""

# %% Question
import pandas as pd
import semantic_study as semantic
import study

QUESTION = __doc__
WEIGHTS = (0.1, 0.2, 0.5, 1.0, 2.0)


# %% Cells: two sets of rules, five weights, right and published arithmetic; seeds outermost
def cells(options):
    return [
        semantic.cell_of(rules, reduction, weight, seed=seed, size=options.size)
        for seed in options.seeds
        for reduction in ("mean_log", "legacy_window")
        for rules in ("base", "target_focused")
        for weight in WEIGHTS
        if rules in options.rules and reduction in options.reductions
    ]


# %% Figure: attack success and balanced accuracy over the weight
LOOK = {"base": ("#3f90da", "o"), "target_focused": ("#bd1f01", "^")}  # of analysis 33's figure
LINES = {"mean_log": ("-", "right columns"), "legacy_window": (":", "as published, here")}


def draw(means, published):
    from matplotlib.ticker import NullFormatter

    from learningcurves.plotting.style import PAGE, figure

    made, axes = figure(2, 1, width=PAGE)
    for rules, (color, marker) in LOOK.items():
        for arithmetic, (line, words) in LINES.items():
            group = means[(means.rules == rules) & (means.reduction == arithmetic)].sort_values("sl_weight")
            face = color if arithmetic == "mean_log" else "white"
            for ax, name in zip(axes[0], ("asr", "ba_clean"), strict=True):
                if len(group) > 1:  # one weight is no curve
                    ax.errorbar(group.sl_weight, 100 * group[name], 100 * group[f"{name}_sd"], color=color, marker=marker,
                                linestyle=line, markerfacecolor=face, markersize=4.5, capsize=2,
                                label=f"{rules.replace('_', '-')}, {words}")  # fmt: skip
        said = published[published.rules == rules].sort_values("sl_weight")
        for ax, name in zip(axes[0], ("asr", "ba_clean_zero"), strict=True):
            if len(said):
                ax.plot(said.sl_weight, 100 * said[name], "--", color="#888888", marker=marker, markersize=3, linewidth=1,
                        label=f"{rules.replace('_', '-')}, the thesis")  # fmt: skip
    for ax, words in zip(axes[0], ("attack success rate (%)", "balanced accuracy (%)"), strict=True):
        ax.set(xlabel="weight of the semantic loss", ylabel=words, xscale="log")
        ax.set_xticks(WEIGHTS, [f"{w:g}" for w in WEIGHTS])
        ax.xaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_ylim(-3, 103)
    made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=6.5)
    return made


# %% Run, tables, figure
if __name__ == "__main__":
    options = semantic.arguments(QUESTION, "31")
    table = study.run(semantic.ready(cells(options), options), semantic.measure, options.out, options.n_jobs)
    study.write_table(table, options.tables, "semantic_weights", digits=4)
    means = semantic.by_model(table)
    study.write_table(means, options.tables, "semantic_weights_means", digits=4)
    published = semantic.published() if not options.small else pd.DataFrame(columns=["rules", "experiment"])
    semantic.save_figure(draw(means, published[published.experiment == 2]), options, "semantic_weights")
    print(
        means[["rules", "reduction", "sl_weight", "seeds", "asr", "asr_sd", "ba_clean", "satisfied_clean"]].to_string()
    )
