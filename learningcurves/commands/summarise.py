"""Medians and 10-90 % intervals over the repeats of a grid."""

EXAMPLE = """example:
  learningcurves summarise results/a --out summary.csv
"""


def add_arguments(parser) -> None:
    """Add the options of this verb."""
    parser.add_argument("source", metavar="SOURCE", help="folder of a grid, or a table that `collect` wrote")
    parser.add_argument("--out", metavar="FILE", required=True, help="table to write: .csv, .json or .parquet")
    parser.add_argument("--low", type=float, default=0.1, help="lower quantile (default: 0.1)")
    parser.add_argument("--high", type=float, default=0.9, help="upper quantile (default: 0.9)")


def run(args) -> int:
    """Write the summary."""
    from learningcurves.commands.tables import check_table, read_results, write_table
    from learningcurves.grid import summarise

    path = check_table(args.out)
    frame = summarise(read_results(args.source), low=args.low, high=args.high)
    write_table(frame, path)
    print(f"{len(frame)} rows written to {path}")
    return 0
