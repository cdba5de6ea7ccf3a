"""Backdoor learning curve: the model is solved exactly at every weight beta of the backdoor samples.

Prints a summary and writes curve.{png,pdf,svg}, deviation.{png,pdf,svg}, curve.csv and curve.json.
"""

from typing import Any

from learningcurves.commands.options import (
    add_data_arguments,
    add_model_arguments,
    describe,
    make_model,
    make_problem,
)
from learningcurves.commands.progress import step
from learningcurves.commands.report import (
    add_output_arguments,
    check_output,
    list_files,
    sign_in_words,
    status_word,
    write_pictures,
    write_tables,
)

EXAMPLE = """examples:
  learningcurves curve --data digits:7-1 --reg 0.1 1 10 --out results
  learningcurves curve --data mnist:7-1 --root ~/data --draw paper --seed 999 --size 6 --learner ridge --reg 1000
  learningcurves curve --data npz:mine.npz --model fitted.skops --refine
"""


def add_arguments(parser) -> None:
    """Add the options of this verb."""
    add_data_arguments(parser)
    add_model_arguments(parser)
    parser.add_argument(
        "--beta",
        type=float,
        nargs="+",
        metavar="BETA",
        help="increasing weights of the backdoor samples in [0, 1] (default: 21 values, dense near 0)",
    )
    add_output_arguments(parser, default="learningcurves-out")


def run(args) -> int:
    """Solve, print, write; 1 if a point of a curve was not solved."""
    from learningcurves.checks import check_beta
    from learningcurves.curves.curve import LearningCurves
    from learningcurves.curves.entry import learning_curve

    beta = None if args.beta is None else check_beta(args.beta)
    folder = check_output(args)
    assert folder is not None  # this verb has a default folder
    with step("reading the data"):
        problem = make_problem(args)
        model = make_model(args, problem)
    with step("solving"):
        result: Any = learning_curve(model, problem, beta, reg=args.reg, refine=args.refine)
    curves = list(result) if isinstance(result, LearningCurves) else [result]
    for line in describe(problem, args):
        print(line)
    summaries = [summary(curve) for curve in curves]
    for facts in summaries:
        print("\n" + in_words(facts))
    frame = table(curves)
    facts = {"data": args.data, "problem": dict(problem.provenance), "curves": summaries}
    with step("drawing"):
        written = write_tables(folder, "curve", frame, facts, args.parquet)
        written += write_pictures(folder, _displays(result, curves, frame))
    print(f"\nwritten  {list_files(written)}")
    return 0 if all(facts["unsolved"] == 0 for facts in summaries) else 1


def table(curves):
    """Return the tidy table of all curves, a row per reg and beta."""
    import pandas as pd

    from learningcurves.plotting.labels import learner_name

    parts = []
    for curve in curves:
        frame = curve.to_frame()
        frame.insert(0, "learner", learner_name(curve.learner))
        frame.insert(1, "reg", curve.reg)
        parts.append(frame.assign(status=[status_word(s) for s in curve.status]))
    return pd.concat(parts, ignore_index=True)


def summary(curve) -> dict:
    """Return the numbers of one curve that the summary prints and the JSON file holds."""
    from learningcurves.curves.deviation import parameter_deviation
    from learningcurves.plotting.labels import learner_loss, learner_name, loss_unit

    start, slope = float(curve.beta[0]), float(curve.slope[0])
    return {
        "learner": learner_name(curve.learner),
        "reg": curve.reg,
        "unit": loss_unit(learner_loss(curve.learner)),
        "beta": [start, float(curve.beta[-1])],
        "loss_triggered": _ends(curve.loss_triggered),
        "loss_clean": _ends(curve.loss_clean),
        "bk": _ends(curve.bk),
        "bk_floor": curve.bk_floor,
        "accuracy_clean": _ends(curve.accuracy_clean),
        "slope": slope,
        "slope_status": status_word(curve.slope_status[0]),
        "slope_cause": "" if curve.slope_status[0].ok else curve.slope_status[0].value,
        "theta": _theta(slope),
        "half_beta": curve.half_beta,
        "area": curve.area,
        "rho": _ends(curve.rho),
        "rho_relative": float(parameter_deviation(curve).rho_relative[-1]),
        "nu": _ends(curve.nu),
        "residual": float(curve.residual.max()),
        "bound": float(curve.bound.max()),
        "loss_bound": float(curve.loss_bound.max()),
        "unsolved": sum(not s.ok for s in curve.status),
        "points": len(curve.beta),
    }


def in_words(facts: dict) -> str:
    """Return the summary of one curve as a few lines."""
    (low, high), unit = facts["beta"], f" {facts['unit']}" if facts["unit"] else ""
    at = f"at beta = {low:g}"
    lines = [
        f"{facts['learner']}, reg = {facts['reg']:g}, {facts['points']} values of beta in [{low:g}, {high:g}]",
        f"  triggered loss    {_arrow(facts['loss_triggered'])}{unit}   clean loss {_arrow(facts['loss_clean'])}{unit}",
        f"  backdoor accuracy {_arrow(facts['bk'], '.3f')} (floor {facts['bk_floor']:.3f}: without any backdoor)"
        f"   clean accuracy {_arrow(facts['accuracy_clean'], '.3f')}",
        f"  slope {at}  dL/dbeta = {facts['slope']:.6g}{unit} ({sign_in_words(facts['slope'])}), "
        f"theta = {facts['theta']:.3f}",
        f"  half of the fall by beta = {facts['half_beta']:.3g}, area under the curve {facts['area']:.4g}",
        f"  deviation         norm x {facts['rho_relative']:.3g} (rho {_arrow(facts['rho'])}), "
        f"angle nu = {facts['nu'][1]:.3g} at beta = {high:g}",
        f"  certificate       |w - w*| <= {facts['bound']:.1e}, loss off by <= {facts['loss_bound']:.1e}, "
        f"residual {facts['residual']:.1e}",
    ]
    if facts["slope_cause"]:
        lines.insert(4, f"    {facts['slope_cause']}")
    if facts["unsolved"]:
        lines.append(
            f"  NOT SOLVED at {facts['unsolved']} of {facts['points']} values of beta: see `status` in the table"
        )
    return "\n".join(lines)


def _displays(result, curves, frame) -> dict[str, Any]:
    from learningcurves.curves.deviation import parameter_deviation
    from learningcurves.plotting.deviation import DeviationDisplay

    if len(curves) == 1:
        return {"curve": curves[0].plot(), "deviation": parameter_deviation(curves[0]).plot()}
    # norms at several lambda differ by orders of magnitude; a log axis has no room for a norm of 0
    scale = "log" if frame["rho"].min() > 0 else "linear"
    return {
        "curve": result.plot(),
        "deviation": DeviationDisplay.from_frame(frame, group="reg", panel=None, yscale=scale),
    }


def _theta(slope):
    import math

    return -2.0 / math.pi * math.atan(slope)


def _ends(values):
    return [float(values[0]), float(values[-1])]


def _arrow(ends, form=".4g"):
    return f"{ends[0]:{form}} -> {ends[1]:{form}}"
