"""Draw the pictures of a grid: curves over beta, slope over lambda, slope against backdoor accuracy, maps.

Medians over repeats with 10-90 % bands; failed cells are left as gaps or drawn as crosses. Rows that differ in an
axis that a picture does not show are drawn apart, one picture each.
"""

EXAMPLE = """example:
  learningcurves plot results/a --out figures
"""

KINDS = ("curves", "slope", "scatter", "map")


def add_arguments(parser) -> None:
    """Add the options of this verb."""
    parser.add_argument("source", metavar="SOURCE", help="folder of a grid, or a table that `collect` wrote")
    parser.add_argument("--out", metavar="FOLDER", default="learningcurves-out", help="folder for PNG, PDF and SVG")
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS), help="which pictures (default: all)")


def run(args) -> int:
    """Draw and write; 1 if some cells failed."""
    from pathlib import Path

    from learningcurves.commands.progress import step
    from learningcurves.commands.report import check_output, list_files, write_pictures
    from learningcurves.commands.tables import read_results
    from learningcurves.errors import InvalidInput

    args.parquet = False
    folder = check_output(args) or Path(args.out)
    frame = read_results(args.source)
    ok = frame[frame["status"] == "ok"]
    if ok.empty:
        raise InvalidInput(f"`{args.source}` holds no finished cell yet; nothing to draw.")
    with step("drawing"):
        pictures = {}
        for kind in args.kind:
            pictures |= DRAWERS[kind](ok)
        written = write_pictures(folder, pictures)
    print(f"written  {list_files(written)}")
    return 1 if len(frame) > len(ok) else 0


def _axes(frame):
    """Columns that say what a cell is and that vary."""
    known = {"data", "learner", "reg", "gamma", "fraction", "extractor", "n_train", "mode", "image_size", "labels"}
    names = [c for c in frame.columns if c in known or (c.startswith("trigger") and c != "trigger_seed")]
    return [c for c in names if frame[c].nunique(dropna=False) > 1]


def _split(frame, shown):
    """(suffix, part) for every combination of the axes that a picture does not show."""
    import re

    hidden = [c for c in _axes(frame) if c not in shown]
    if not hidden:
        return [("", frame)]
    parts = []
    for values, part in frame.groupby(hidden, dropna=False, sort=True):
        words = "_".join(str(v) for v in values)
        parts.append(("_" + re.sub(r"[^A-Za-z0-9.+-]+", "-", words).strip("-"), part))
    return parts


def _curves(frame):
    from learningcurves.plotting.curve import CurveDisplay

    parts = _split(frame, ("reg", "fraction"))
    return {f"curves{name}": CurveDisplay.from_frame(part) for name, part in parts if part["beta"].nunique() > 1}


def _first_beta(frame):
    return frame[frame["beta"] == frame["beta"].min()]


def _slope(frame):
    from learningcurves.plotting.slope import SlopeDisplay

    first = _first_beta(frame)
    parts = _split(first, ("reg", "learner"))
    return {f"slope{name}": SlopeDisplay.from_frame(part) for name, part in parts if part["reg"].nunique() > 1}


def _at_ends(frame):
    """Slope at the smallest beta beside the accuracies at the largest, a row per cell."""
    keys = [c for c in (*_axes(frame), "repeat") if c in frame.columns]
    first, last = _first_beta(frame), frame[frame["beta"] == frame["beta"].max()]
    if not keys:
        return first.assign(bk=last["bk"].to_numpy(), accuracy_clean=last["accuracy_clean"].to_numpy())
    ends = last[[*keys, "bk", "accuracy_clean"]]
    return first.drop(columns=["bk", "accuracy_clean"]).merge(ends, on=keys, how="left")


def _scatter(frame):
    from learningcurves.plotting.scatter import SlopeScatterDisplay

    parts = _split(_at_ends(frame), ("reg", "learner", "fraction"))
    return {f"slope_bk{name}": SlopeScatterDisplay.from_frame(part) for name, part in parts if len(part) > 1}


def _map(frame):
    from learningcurves.plotting.grid import MapDisplay

    last, pictures = frame[frame["beta"] == frame["beta"].max()], {}
    for x in ("gamma", "fraction"):
        if x not in last or last[x].nunique() < 2 or last["reg"].nunique() < 2:
            continue
        for name, part in _split(last[last[x].notna()], ("reg", x)):
            if part[x].nunique() > 1:
                pictures[f"map_{x}{name}"] = MapDisplay.from_frame(part, x=x)
    return pictures


DRAWERS = {"curves": _curves, "slope": _slope, "scatter": _scatter, "map": _map}
