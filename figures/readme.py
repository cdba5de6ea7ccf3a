# %% [markdown]
# The pictures of the README: what does regularisation do to a backdoor on handwritten digits?
# Run with ``python figures/readme.py [FOLDER]``; writes curve.png and deviation.png, by default into docs/images.

# %%
import sys
from pathlib import Path

import learningcurves as lc
from learningcurves.plotting.deviation import DeviationDisplay

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "docs" / "images"

data = lc.load_digits_pair(7, 1)
problem = lc.poison(data, lc.RandomPatch(size=3, seed=0), fraction=0.1, seed=0)
curves = lc.learning_curve(lc.Logistic(), problem, reg=[0.1, 1.0, 10.0])

# %%
curves.plot().save(folder / "curve.png", dpi=110)
DeviationDisplay.from_frame(curves.to_frame(), group="reg", panel=None, yscale="log").save(
    folder / "deviation.png", dpi=110
)

# %% [markdown]
# The weaker the regularisation, the steeper the fall of the triggered loss and the higher the backdoor accuracy; the
# parameters grow and turn the more, while the clean accuracy stays at 1.
