"""The verbs of the command line, one module each.

A verb ``name`` is a module ``learningcurves/commands/name.py`` with

- a docstring, shown by ``--help``, and ``EXAMPLE``, shown below the options;
- ``add_arguments(parser)``, which imports nothing heavy;
- ``run(args) -> int``, the exit code: 0 ok, 1 something could not be solved. It raises InvalidInput for bad input.
"""

VERBS = {
    "curve": "backdoor learning curve with slope and deviation: pictures, table, summary",
    "slope": "slope of the curve, with an error bound and a check by refitting",
    "run": "run a grid over lambda, fraction, triggers, ... from a TOML file; resumable",
    "collect": "collect the cells of a grid into one table",
    "summarise": "medians and intervals over the repeats of a grid",
    "plot": "pictures of a grid",
    "page": "one HTML page of a grid that works offline",
}
