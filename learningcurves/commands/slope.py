"""Backdoor slope: how fast the loss on triggered test samples changes with the weight beta of the backdoor samples.

A negative slope means that the backdoor is learned. `--verify` refits at nearby beta and compares.
"""

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
    status_word,
    write_pictures,
    write_tables,
)

EXAMPLE = """examples:
  learningcurves slope --data digits:7-1 --learner ridge --reg 0.1 1 10 --verify
  learningcurves slope --data npz:mine.npz --model fitted.skops --at 1
"""


def add_arguments(parser) -> None:
    """Add the options of this verb."""
    add_data_arguments(parser)
    add_model_arguments(parser)
    parser.add_argument("--at", type=float, default=0.0, help="weight beta at which the slope is taken (default: 0)")
    parser.add_argument("--verify", action="store_true", help="refit at nearby beta and compare")
    add_output_arguments(parser)


def run(args) -> int:
    """Solve, print, write; 1 if a slope has no value, or none that refitting confirms."""
    from sklearn.base import clone

    from learningcurves.checks import check_reg
    from learningcurves.curves.entry import backdoor_slope
    from learningcurves.errors import InvalidInput

    if args.model is not None and args.reg is not None:
        raise InvalidInput(
            "`--reg` and `--model` exclude each other: the slope is that of the model as it was trained."
        )
    regs = None if args.reg is None else [check_reg(reg) for reg in args.reg]
    folder = check_output(args)
    with step("reading the data"):
        problem = make_problem(args)
        model = make_model(args, problem)
    models = [model] if regs is None else [clone(model).set_params(reg=reg) for reg in regs]
    for line in describe(problem, args):
        print(line)
    rows, slopes, good = [], [], True
    for one in models:
        with step("solving"):
            slope = backdoor_slope(one, problem, args.at, refine=args.refine)
        row = _row(slope, one)
        print(f"\n{row['learner']}, reg = {slope.reg:g}\n{slope!r}")
        print(f"  relative -dL/dbeta / L = {slope.relative:.4g}, per unit of weight {slope.per_unit_weight:.4g}")
        good &= slope.status.ok
        if args.verify:
            with step("refitting"):
                check = slope.verify()
            print(f"  {check!r}")
            row |= {"refitted": check.refitted, "relative_difference": check.relative_difference}
            good &= check.cause == ""
        rows.append(row)
        slopes.append(slope)
    if folder is not None:
        print(f"\nwritten  {list_files(_write(folder, rows, slopes, problem, args))}")
    return 0 if good else 1


def _row(slope, model) -> dict:
    from learningcurves.plotting.labels import learner_name

    return {
        "learner": learner_name(model),
        "reg": slope.reg,
        "at": slope.at,
        "slope": slope.value,
        "theta": slope.theta,
        "relative": slope.relative,
        "per_unit_weight": slope.per_unit_weight,
        "error_bound": slope.error_bound,
        "breakpoint": slope.breakpoint,
        "loss_triggered": slope.loss,
        "residual": slope.residual,
        "bound": slope.fit.bound,
        "status": status_word(slope.status),
    }


def _write(folder, rows, slopes, problem, args):
    import numpy as np
    import pandas as pd

    from learningcurves.plotting.slope import SlopeDisplay

    frame = pd.DataFrame(rows)
    written = write_tables(
        folder, "slope", frame, {"data": args.data, "problem": dict(problem.provenance)}, args.parquet
    )
    with step("drawing"):
        if len(slopes) == 1 and np.isfinite(slopes[0].value):  # without a value there is nothing to draw
            written += write_pictures(folder, {"slope": slopes[0].plot()})
        elif np.isfinite(frame["slope"]).any():
            written += write_pictures(folder, {"slope": SlopeDisplay.from_frame(frame)})
    return written
