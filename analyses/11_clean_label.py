"""Does making clean-label poisons harder by PGD help the attack, or does the perturbation become the shortcut itself?"""

# %% Question
from functools import lru_cache

import attack_study as attacks
import numpy as np
import pandas as pd
import study

import learningcurves as lc
from learningcurves.defences.metrics import target_rate
from learningcurves.streams import generator

QUESTION = __doc__
SHARE = 0.8  # of the target class, as in the published recipes
EPS = (0.0, 16 / 255, 0.1, 0.3)  # 0: stamped without perturbation
N_CONTROL = 1000  # test samples of other classes that the controls are taken on
STEPS = 20


# %% Cells: eps and a seed
def cells_of(data_sets):
    return [
        {"data": data, "seed": seed, "eps": eps}
        for data in data_sets
        for seed in attacks.SIZES[data]["seeds"][:2]
        for eps in EPS
    ]


@lru_cache(maxsize=1)
def perturbed_test(data, seed, eps):
    """Return test samples of other classes, and the same under noise of size eps and under PGD on the clean network."""
    source = attacks.images(data, seed)
    rows = np.flatnonzero(source.y_test != attacks.TARGET)[:N_CONTROL]
    X, y = source.X_test[rows].reshape(len(rows), *source.image_shape), source.y_test[rows]
    noise = generator(seed, use="control noise").uniform(-eps, eps, X.shape)
    strongest = lc.PGD(eps, STEPS, seed=seed).perturb(attacks.clean_network(data, seed), X, y).X
    return X, np.clip(X + noise, 0, 1), strongest.astype(float)


def measure(cell):
    """Train on perturbed and stamped samples; who is called the target: trigger, noise, PGD, and both together."""
    data, seed, eps = cell["data"], cell["seed"], cell["eps"]
    source, clean = attacks.images(data, seed), attacks.clean_network(data, seed)
    count = int(SHARE * (source.y_train == attacks.TARGET).sum())
    attack = lc.PGD(eps, STEPS, seed=seed, early_stop=False)
    problem = attacks.problem_of(data, "clean-label PGD", count, seed, perturb=attack.on(clean) if eps else None)
    rows = problem.provenance["indices"]
    made = attack.perturb(clean, source.X_train[rows].reshape(-1, *source.image_shape), source.y_train[rows])
    module = attacks.trained(data, seed, problem, f"clean-label_eps={eps:.4f}")
    X, noisy, strongest = perturbed_test(data, seed, eps)
    trigger = attacks.trigger_of("clean-label PGD", data)
    shown = {"noise_only": noisy, "pgd_only": strongest, "trigger_and_noise": trigger.apply(noisy)}
    row = {**attacks.rates(module, problem), "count": count, "fooled": float(made.fooled.mean())}
    for name, samples in shown.items():
        rate = target_rate(module, samples, attacks.TARGET)
        row |= {f"{name}_hits": int(rate.hit.sum()), f"{name}_n": rate.n}
    rate = target_rate(clean, strongest, attacks.TARGET)
    row |= {"pgd_on_clean_network_hits": int(rate.hit.sum()), "pgd_on_clean_network_n": rate.n}
    row["slope"] = lc.backdoor_slope(clean, problem, reg=1.0).value
    yield row


# %% What each eps brings
RATES = ("asr", "no_trigger", "acc", "noise_only", "pgd_only", "trigger_and_noise", "pgd_on_clean_network")


def by_eps(table):
    rows = []
    for (data, eps), group in table.groupby(["data", "eps"]):
        row = {"data": data, "eps": eps, "seeds": len(group), "count": int(group["count"].median())}
        row |= {"fooled": group.fooled.mean(), "slope": group.slope.median()}
        rows.append(row | {k: v for name in RATES for k, v in attacks.pooled(group, name).items()})
    return pd.DataFrame(rows)


def apart(table, least=0.5):
    """Say of each eps whose networks differ by `least` in ASR what every one of them learned: trigger or perturbation."""
    words = []
    for (data, eps), group in table.groupby(["data", "eps"]):
        shares = {name: group[f"{name}_hits"] / group[f"{name}_n"] for name in ("asr", "noise_only", "pgd_only")}
        if np.ptp(shares["asr"]) < least:
            continue
        rows = [f"{a:.3f}, {n:.3f} and {p:.3f}" for a, n, p in zip(*shares.values(), strict=True)]
        words.append(
            f"{data}, eps {eps:.3f}: networks differ. Called the target under the trigger, under noise alone and under PGD alone: "
            + "; ".join(rows) + ". The rates above are means of these."
        )  # fmt: skip
    return words


def finding(summary):
    words = []
    for data, group in summary.groupby("data"):
        for row in group.sort_values("eps").itertuples():
            words.append(
                f"{data}, eps {row.eps:.3f} ({row.count} poisons, {row.fooled:.0%} fool the clean network): ASR {row.asr:.3f} "
                f"[{row.asr_low:.3f}, {row.asr_high:.3f}] with the trigger alone; called the target without any trigger: "
                f"{row.noise_only:.3f} [{row.noise_only_low:.3f}, {row.noise_only_high:.3f}] under noise, {row.pgd_only:.3f} "
                f"[{row.pgd_only_low:.3f}, {row.pgd_only_high:.3f}] under PGD ({row.pgd_on_clean_network:.3f} by the clean "
                "network)."
            )
    return words


# %% Figure
def draw(summary):
    from learningcurves.plotting.style import PAGE, figure, group_styles, local, outside_legend

    names = {
        "asr": "trigger alone (ASR)",
        "noise_only": "noise, no trigger",
        "pgd_only": "PGD, no trigger",
        "trigger_and_noise": "trigger and noise",
        "no_trigger": "neither",
    }
    data_sets = list(summary.data.unique())
    with local():
        width = min(PAGE, 0.6 * PAGE * len(data_sets))
        made, axes = figure(len(data_sets), 1, width=width, aspect=0.62 if len(data_sets) == 1 else 1, sharey=True)
        axes[0, 0].set(ylabel="called the target (share)", ylim=(-0.03, 1.03))
        styles, handles = group_styles(names.values()), []
        for ax, data in zip(axes[0], data_sets, strict=True):
            group = summary[summary.data == data].sort_values("eps")
            lines = []
            for name, label in names.items():
                lines.append(attacks.draw_rate(ax, group.eps, group, name, styles[label].line(label=label)))
            handles = handles or lines
            ax.set_xlabel(f"ε of the value range, {data}")
        outside_legend(made, axes[0, 0], handles)
    return made


# %% Run, tables, figure, finding
if __name__ == "__main__":
    options = attacks.arguments(QUESTION, "11")
    table = attacks.finished(study.run(cells_of(options.data), measure, options.out, options.n_jobs))
    summary = by_eps(table)
    study.write_table(table, options.tables, "clean_label_networks", digits=4)
    study.write_table(summary, options.tables, "clean_label", digits=4)
    attacks.save_figure(draw(summary), options, "clean_label")
    print(*finding(summary), *apart(table), sep="\n")
