"""Which attacks does a small network on CIFAR-10 learn, with and without random shifts and flips in training?"""

# %% Question
import attack_study as attacks
import pandas as pd
import study

import learningcurves as lc
from learningcurves.poisoning.triggers import Checkerboard, badnets_patch

QUESTION = __doc__
SEED = 7  # not one of the other studies': their settings were chosen from these trials, by ASR alone
STEPS = 20  # of PGD
TRIGGERS = {
    "3 x 3": badnets_patch,
    "5 x 5 random": lambda: lc.RandomPatch(size=5, seed=1),
    "8 x 8 random": lambda: lc.RandomPatch(size=8, seed=1),
    "four corners": Checkerboard,
}
# attack, trigger, poisons, eps in 255ths, shift
TRIALS = (
    ("badnets", "3 x 3", 200, 0, 4),
    ("badnets", "3 x 3", 200, 0, 0),
    ("badnets", "5 x 5 random", 200, 0, 0),
    ("badnets", "8 x 8 random", 200, 0, 4),
    ("clean-label", "8 x 8 random", 250, 16, 0),
    ("clean-label", "8 x 8 random", 250, 32, 4),
    ("clean-label", "8 x 8 random", 500, 16, 0),
    ("clean-label", "8 x 8 random", 500, 16, 4),
    ("clean-label", "8 x 8 random", 500, 32, 4),
    ("clean-label", "four corners", 500, 16, 4),
    ("clean-label", "four corners", 800, 16, 0),
    ("clean-label", "four corners", 800, 16, 4),
)
COLUMNS = ("attack", "trigger", "count", "eps_255", "shift")


def cells_of(data_sets):
    return [
        {"data": data, "seed": SEED, **dict(zip(COLUMNS, row, strict=True))} for data in data_sets for row in TRIALS
    ]


def measure(cell):
    """Train on the attack; slope of the clean network's last layer beside it."""
    data, shift, eps = cell["data"], cell["shift"], cell["eps_255"]
    source, trigger = attacks.images(data, SEED), TRIGGERS[cell["trigger"]]()
    clean = attacks.trained(data, SEED, attacks.problem_of(data, "badnets", 0, SEED), f"clean_shift={shift}", shift)
    if cell["attack"] == "badnets":
        problem = lc.poison(source, trigger, count=cell["count"], seed=SEED, labels=attacks.TARGET)
    else:
        perturb = lc.PGD(eps / 255, STEPS, seed=SEED, early_stop=False).on(clean)
        problem = lc.poison_clean_label(
            source, trigger, attacks.TARGET, count=cell["count"], seed=SEED, perturb=perturb
        )
    name = "_".join(str(cell[column]).replace(" ", "-") for column in COLUMNS)
    module = attacks.trained(data, SEED, problem, f"trial_{name}", shift)
    yield {**attacks.rates(module, problem), "slope": lc.backdoor_slope(clean, problem, reg=1.0).value}


def in_short(table):
    """Return one row a trial: rates with Wilson's intervals."""
    rows = []
    for _, row in table.iterrows():
        one = table.loc[[row.name]]
        found = {k: v for name in ("asr", "no_trigger", "acc") for k, v in attacks.pooled(one, name).items()}
        rows.append({c: row[c] for c in ("data", *COLUMNS)} | found | {"slope": row.slope})
    return pd.DataFrame(rows)


def finding(summary):
    return [
        f"{row.data}, {row.attack}, {row.trigger}, {row.count_} poisons, shifts of {row.shift} pixels: ASR {row.asr:.3f} "
        f"[{row.asr_low:.3f}, {row.asr_high:.3f}], no trigger {row.no_trigger:.3f}, ACC {row.acc:.3f}; slope of the clean "
        f"network's last layer {row.slope:.3g} nats."
        for row in summary.rename(columns={"count": "count_"}).itertuples()
    ]


if __name__ == "__main__":
    options = attacks.arguments(QUESTION, "14", data=("cifar10",))
    summary = in_short(attacks.finished(study.run(cells_of(options.data), measure, options.out, options.n_jobs)))
    study.write_table(summary, options.tables, "cifar_trials", digits=4)
    print(*finding(summary), sep="\n")
