"""How fast is each trigger learned, over epochs and over the weight beta of the backdoor samples?"""

# %% Question
import pandas as pd
import semantic_study as semantic
import study

QUESTION = __doc__
BETAS = (0.0, 0.1, 0.3, 1.0)


# %% Cells: nine triggers under the base rules; two models at several beta
def cells(options):
    triggers = [
        semantic.cell_of("base", trigger=trigger, seed=seed, size=options.size)
        for seed in options.seeds
        for trigger in options.triggers
    ]
    return triggers, [
        {**semantic.cell_of(rules, seed=seed, size=options.size), "beta": beta}
        for seed in options.seeds
        for rules in ("none", "base")
        for beta in BETAS
        if rules in options.rules
    ]


def measure_beta(cell):
    return semantic.measure({k: v for k, v in cell.items() if k != "beta"}, **semantic.beta_of(cell))


def by_trigger(table):
    """How soon the trigger is ranked above its absence, and what the last epochs, which alone were published, say."""
    rows = []
    for trigger, group in table.groupby("trigger", sort=False):
        last = semantic.SIZES[group["size"].iloc[0]]["last"]
        first = [one.epoch[one.auc_attack > semantic.LEARNED].min() for _, one in group.groupby("seed")]
        tail = group[group.epoch > group.epoch.max() - last]
        rows.append(
            {
                "trigger": trigger,
                "seeds": group.seed.nunique(),
                "first_epoch_auc": semantic.mean_or_nan(first),
                "asr_last": tail.asr.mean(),
                "asr_sd_epochs": tail.groupby("seed").asr.std().mean(),
                "auc_attack_last": tail.auc_attack.mean(),
                "auc_attack_epoch_1": group[group.epoch == 1].auc_attack.mean(),
            }
        )
    return pd.DataFrame(rows)


# %% Figure: ASR and the threshold-free AUC over epochs, by trigger; ASR over beta
PLACES = {"bottom_right": ("#3f90da", "o"), "center": ("#bd1f01", "^"), "corners": ("#832db6", "D")}
SIDES = {"1": ":", "5": "-", "10": "--"}
RULES = {"none": ("#e79c00", "-s"), "base": ("#3f90da", "--o")}


def draw(table, beta):
    from learningcurves.plotting.style import PAGE, figure

    made, axes = figure(3, 1, width=PAGE, aspect=0.85)
    for trigger, group in table.groupby("trigger", sort=False):
        side, _, place = trigger.partition("-")
        color, marker = PLACES[place]
        mean = group.groupby("epoch")[["asr", "auc_attack"]].mean()
        look = {"color": color, "marker": marker, "linestyle": SIDES[side], "markersize": 2.2, "linewidth": 1}
        axes[0, 0].plot(mean.index, 100 * mean.asr, label=f"{side} px, {place.replace('_', ' ')}", **look)
        axes[0, 1].plot(mean.index, mean.auc_attack, **look)
    axes[0, 0].set(xlabel="epoch", ylabel="attack success rate (%)", ylim=(-3, 103))
    axes[0, 1].set(xlabel="epoch", ylabel="AUC of the attack", ylim=(0.2, 1.01))
    for rules, (color, look) in RULES.items():
        last = beta[
            (beta.rules == rules) & (beta.epoch > beta.epoch.max() - semantic.SIZES[beta["size"].iloc[0]]["last"])
        ]
        mean = last.groupby("beta").asr.mean()
        if len(mean):
            axes[0, 2].plot(mean.index, 100 * mean, look, color=color, label=rules, markersize=4)
    axes[0, 2].set(xlabel="weight β of the backdoor samples", ylabel="attack success rate (%)", ylim=(-3, 103))
    axes[0, 2].legend(fontsize=6.5, title="rules", title_fontsize=6.5, loc="lower right", bbox_to_anchor=(1.0, 0.5))
    made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=6.5)
    return made


# %% Run, tables, figure
if __name__ == "__main__":
    options = semantic.arguments(QUESTION, "32")
    triggers, betas = (semantic.ready(some, options) for some in cells(options))
    table = study.run(triggers, semantic.measure, options.out / "triggers", options.n_jobs)
    study.write_table(table, options.tables, "semantic_triggers", digits=4)
    summary = by_trigger(table)
    study.write_table(summary, options.tables, "semantic_triggers_means", digits=4)
    beta = study.run(betas, measure_beta, options.out / "beta", options.n_jobs)
    study.write_table(beta, options.tables, "semantic_beta", digits=4)
    semantic.save_figure(draw(table, beta), options, "semantic_triggers")
    print(summary.to_string(index=False))
