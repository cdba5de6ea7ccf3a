"""What does the poisoned classifier look at, and which training samples made it so?"""

# %% Question, tables, and the images that the tables point to
import sys
from pathlib import Path

import draw
import numpy as np

from learningcurves.plotting import GradientDisplay, InfluenceDisplay

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "analyses"))
import study  # noqa: E402

given = draw.options(__doc__).parse_args()


def spread(maps, shape):
    """Return maps that are sums over the colours as gradients of all colours, which add up to them again."""
    channels, side, _ = shape
    return np.broadcast_to(maps.reshape(-1, 1, side, side) / channels, (len(maps), channels, side, side))


for kind in given.data:
    gradients, influence = draw.table(given, f"gradients_{kind}"), draw.table(given, f"influence_{kind}")
    if gradients is None or influence is None:
        continue
    pair, trigger = gradients.pair.iloc[0], gradients.trigger.iloc[0]
    problem = study.problem_of(pair, trigger, pixels=True)
    shape = problem.image_shape

    # %% Gradient maps before and after poisoning
    for learner, part in gradients.groupby("learner", sort=False):
        tests = list(dict.fromkeys(part.test))
        maps = {
            name: spread(np.stack([part[part.test == t].sort_values("pixel")[name].to_numpy() for t in tests]), shape)
            for name in ("clean", "poisoned")
        }
        display = GradientDisplay.from_gradients(
            maps, image_shape=shape, images=problem.X_triggered[tests].reshape(-1, *shape)
        )
        draw.save(display, given, f"gradients_{kind}_{learner}")

    # %% Most influential training samples of one triggered test sample
    images = np.vstack([problem.X_clean, problem.X_backdoor])
    labels = np.concatenate([problem.y_clean, problem.y_backdoor])
    rows = influence[(influence.pair == pair) & (influence.learner == "logistic")]
    rows = rows[rows.test == rows.test.iloc[0]]
    test = int(rows.test.iloc[0])
    values = np.zeros(len(images))
    values[rows["sample"]] = rows.value
    display = InfluenceDisplay.from_influence(
        values, images, problem.X_triggered[test], [problem.class_names[y] for y in labels], n=7, loss="logistic",
        image_shape=shape, backdoor=np.arange(len(images)) >= problem.n_clean,
    )  # fmt: skip
    draw.save(display, given, f"influence_{kind}")

    # %% Finding
    facts = draw.table(given, f"explanations_{kind}")
    print(facts[["pair", "learner", "patch_share_clean", "patch_share_poisoned", "backdoor_share_helpful"]].to_string())
