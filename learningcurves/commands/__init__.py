"""The verbs of the command line, one module each.

A verb ``name`` is a module ``learningcurves/commands/name.py`` with

- a docstring, shown by ``--help``, and ``EXAMPLE``, shown below the options;
- ``add_arguments(parser)``, which imports nothing heavy;
- ``run(args) -> int``, the exit code: 0 ok, 1 something could not be solved. It raises InvalidInput for bad input.
"""

VERBS = {
    "curve": "backdoor learning curve with slope and deviation: pictures, table, summary",
    "slope": "slope of the curve, with an error bound and a check by refitting",
}
