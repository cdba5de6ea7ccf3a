"""The command line: ``learningcurves VERB``. Each verb is a module of `learningcurves.commands`."""

import argparse
import importlib
import os
import sys
import warnings

from learningcurves import __version__
from learningcurves.commands import VERBS
from learningcurves.errors import ConvergenceWarning, InvalidInput, NotSupported, SolveFailed

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_EPILOG = """example (a backdoor on real handwritten digits; nothing is downloaded):
  learningcurves curve

exit codes: 0 ok, 1 something could not be solved or written, 2 wrong usage or input
"""


def main(argv=None) -> int:
    """Run one verb and return its exit code; errors of the user are one line on stderr, without a traceback."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        args = make_parser(argv).parse_args(argv)
    except SystemExit as stop:  # argparse has printed the help (0) or what is wrong (2)
        return int(stop.code or 0)
    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=ConvergenceWarning)
        warnings.showwarning = _show_warning
        return _run(args)


def make_parser(argv=()) -> argparse.ArgumentParser:
    """Return the parser; only the verb that is asked for is imported with its options."""
    parser = argparse.ArgumentParser(
        prog="learningcurves",
        description="How easily does a model learn a backdoor? Exact learning curves, slopes and deviation.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"learningcurves {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    asked = next((word for word in argv if not word.startswith("-")), None)
    for verb, summary in VERBS.items():
        if verb != asked:
            verbs.add_parser(verb, help=summary)
            continue
        module = importlib.import_module(f"learningcurves.commands.{verb}")
        sub = verbs.add_parser(
            verb,
            help=summary,
            description=module.__doc__,
            epilog=module.EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def _run(args) -> int:
    try:
        return args.run(args)
    except (InvalidInput, NotSupported) as error:
        return _complain(args.verb, error, USAGE)
    except SolveFailed as error:
        return _complain(args.verb, error, FAILED)
    except BrokenPipeError:  # `learningcurves ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        return _complain(args.verb, f"{error}. Files already written are whole; nothing is left half written.", FAILED)
    except MemoryError:
        return _complain(args.verb, "out of memory. Use fewer samples or features.", FAILED)
    except KeyboardInterrupt:
        return _complain(args.verb, "interrupted", INTERRUPTED)


def _complain(verb, error, code) -> int:
    print(f"learningcurves {verb}: error: {error}", file=sys.stderr)
    return code


def _show_warning(message, *_args, **_kwargs):
    print(f"learningcurves: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
