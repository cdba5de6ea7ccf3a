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
def draw(means, published):
    from learningcurves.plotting.style import PAGE, figure, group_styles

    names = [f"{r}, {a}" for r in means.rules.unique() for a in means.reduction.unique()]
    styles = group_styles(names)
    made, axes = figure(2, 1, width=PAGE)
    for (rules, arithmetic), group in means.groupby(["rules", "reduction"]):
        style, group = styles[f"{rules}, {arithmetic}"], group.sort_values("sl_weight")
        look = {"color": style.color, "marker": style.marker, "linestyle": style.linestyle}
        for ax, name in zip(axes[0], ("asr", "ba_clean"), strict=True):
            ax.errorbar(group.sl_weight, 100 * group[name], 100 * group[f"{name}_sd"], capsize=2, **look,
                        label=f"{rules}, {arithmetic}" if name == "asr" else None)  # fmt: skip
    for rules, group in published.groupby("rules"):
        for ax, name in zip(axes[0], ("asr", "ba_clean_zero"), strict=True):
            label = f"{rules}, published" if name == "asr" else None
            ax.plot(group.sl_weight, 100 * group[name], ":" if rules == "base" else "--", color="#888888", label=label)
    axes[0, 0].set(xlabel="weight of the semantic loss", ylabel="attack success rate (%)", xscale="log", ylim=(-3, 103))
    axes[0, 1].set(xlabel="weight of the semantic loss", ylabel="balanced accuracy (%)", xscale="log")
    made.legend(loc="outside upper center", ncols=3, fontsize=7)
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
