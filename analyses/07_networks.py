"""Do slope and backdoor accuracy of a network fall with weight decay while clean accuracy stays, as convex learners do?"""

# %% Question
from functools import partial

import network_study as nets
import study

import learningcurves as lc

QUESTION = __doc__


# %% Cells: a network, lambda (weight decay = lambda / N), poisoned fraction, seed; trained at every beta
def head_slopes(module, problem, reg):
    """Slope of the last layer: with the training's own lambda on raw features, and with lambda = 1 on standard ones."""
    own = lc.backdoor_slope(module, problem, reg=reg, standardize=False)
    fixed = lc.backdoor_slope(module, problem, reg=1.0)
    return {"slope": own.value, "slope_standard": fixed.value, "head_residual": own.head_residual}


def measure(cell):
    problem = nets.problem_of(cell["data"], cell["fraction"], cell["seed"])
    look = partial(head_slopes, problem=problem, reg=cell["reg"])
    frames = [
        nets.trained_curve(cell, [0.0], measure=look).to_frame(),
        nets.trained_curve(cell, list(nets.BETA[cell["data"]])).to_frame(),
    ]
    columns = ["beta", "epoch", "loss_triggered", "loss_clean", "bk", "accuracy_clean", "status"]
    extra = ["slope", "slope_standard", "head_residual"]
    rows = frames[0][columns + extra].to_dict("records") + frames[1][columns].to_dict("records")
    return [{"n": problem.n_clean + problem.n_backdoor, **row} for row in rows]


# %% Run
if __name__ == "__main__":
    options = nets.arguments(QUESTION, "07")
    table = study.run(nets.cells_of(options.pairs), measure, options.out, options.n_jobs)
