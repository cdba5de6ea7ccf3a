"""Collect the cells of a grid into one table, while it runs or afterwards."""

EXAMPLE = """example:
  learningcurves collect results/a --out table.csv
"""


def add_arguments(parser) -> None:
    """Add the options of this verb."""
    parser.add_argument("folder", metavar="FOLDER", help="folder that `learningcurves run` wrote")
    parser.add_argument("--out", metavar="FILE", required=True, help="table to write: .csv, .json or .parquet")
    parser.add_argument("--timing", action="store_true", help="add the seconds of every cell")


def run(args) -> int:
    """Write the table; 1 if some cells failed."""
    from learningcurves.commands.tables import check_table, write_table
    from learningcurves.grid import collect

    path = check_table(args.out)
    frame = collect(args.folder, timing=args.timing)
    write_table(frame, path)
    failed = int((frame["status"] != "ok").sum()) if len(frame) else 0
    print(f"{len(frame)} rows written to {path}" + (f", {failed} of failed cells" if failed else ""))
    return 1 if failed else 0
