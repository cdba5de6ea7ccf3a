"""Make one HTML page of a grid that works offline: curves with sliders, slope against accuracy, maps, failed cells."""

EXAMPLE = """example:
  learningcurves page results/a --out page.html
"""


def add_arguments(parser) -> None:
    """Add the options of this verb."""
    parser.add_argument("source", metavar="SOURCE", help="folder of a grid, or a table that `collect` wrote")
    parser.add_argument("--out", metavar="FILE.html", required=True, help="page to write")
    parser.add_argument("--title", help="title of the page")


def run(args) -> int:
    """Write the page."""
    from learningcurves.commands.progress import step
    from learningcurves.commands.tables import read_results
    from learningcurves.errors import InvalidInput
    from learningcurves.plotting.page import write_page

    if not args.out.endswith((".html", ".htm")):
        raise InvalidInput(f"`--out {args.out}` does not end in .html.")
    frame = read_results(args.source)
    with step("writing the page"):
        write_page(frame, args.out, title=args.title)
    print(f"written  {args.out}")
    return 0
