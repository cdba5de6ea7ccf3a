"""Run a grid: every combination of the axes in a TOML file, in parallel, one file a cell, safe to interrupt.

Running the same command again resumes. The cells are collected with `learningcurves collect`.
"""

from typing import Any

EXAMPLE = """example (grid.toml):
  data = "digits:7-1"
  learner = ["logistic", "ridge"]
  reg = [0.1, 1.0, 10.0]
  fraction = [0.05, 0.1]
  repeat = 3
  beta = [0.0, 0.1, 0.5, 1.0]
  trigger = { kind = "random_patch", size = 2, per_class = true }

  learningcurves run grid.toml --out results/a --dry-run
  learningcurves run grid.toml --out results/a --n-jobs 2
  learningcurves run grid.toml --out results/a --backend dask --scheduler tcp://head:8786
"""


def add_arguments(parser) -> None:
    """Add the options of this verb."""
    parser.add_argument("grid", metavar="GRID.toml", help="the grid; every key that holds a list is an axis")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder of the cells; made if needed")
    parser.add_argument("--n-jobs", type=int, default=1, metavar="N", help="worker processes, -1 for all cores (1)")
    parser.add_argument("--backend", default="loky", help="loky, threading, dask or ray (default: loky)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="address of a Dask scheduler, tcp://host:port")
    parser.add_argument("--dry-run", action="store_true", help="count cells, measure a pilot, say time and memory")
    parser.add_argument("--max-cells", type=int, metavar="N", help="refuse larger grids (default: 100000)")
    parser.add_argument("--retry-failed", action="store_true", help="compute failed cells again")


def run(args) -> int:
    """Run the grid; 1 if some cells failed."""
    from learningcurves.grid import run_grid

    found: Any = run_grid(
        args.grid,
        args.out,
        n_jobs=args.n_jobs,
        backend=args.backend,
        scheduler=args.scheduler,
        dry_run=args.dry_run,
        max_cells=args.max_cells,
        retry_failed=args.retry_failed,
    )
    if args.dry_run:
        print(repr(found))
        return 0
    failed = found[found["status"] != "ok"]
    for _, row in failed.drop_duplicates("message").head(5).iterrows():
        print(f"failed: {row['status']}: {row['message']}")
    return 1 if len(failed) else 0
