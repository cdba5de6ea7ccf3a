"""The trigger tables of a grid: lists inside a table become axes, options are checked against the kind."""

import inspect
import itertools
from collections.abc import Mapping

import numpy as np

from learningcurves.errors import InvalidInput
from learningcurves.grid.source import Source, nearest
from learningcurves.poisoning.triggers import KINDS, make_trigger


def trigger_axis(value, source: Source) -> tuple[list[dict[str, list]], int]:
    """Return the tables with a list of values for each option, and how many triggers they make."""
    tables = value if isinstance(value, list | tuple) else [value]
    if not tables:
        raise source.refuse("`trigger` is empty. Give a table, e.g. { kind = 'random_patch', size = 3 }.", "trigger")
    options = [_options(table, source) for table in tables]
    return options, sum(_product_size(o) for o in options)


def expand(tables, source: Source) -> tuple[dict, ...]:
    """Return every trigger of the tables as a plain dictionary of options, each checked by making it once."""
    found = []
    for table in tables:
        for values in itertools.product(*table.values()):
            options = dict(zip(table, values, strict=True))
            options = {**_defaults(options["kind"]), **options}  # a cell states its trigger in full
            try:
                make_trigger(loaded(options))
            except InvalidInput as error:
                raise source.refuse(f"`trigger`: {error}", "trigger") from None
            if options in found:
                raise source.refuse(f"`trigger` holds {label(options)!r} twice. Leave one out.", "trigger")
            found.append(options)
    return tuple(found)


def loaded(options: Mapping, base="") -> dict:
    """Return the options with a pattern given as the path of a .npy file read in."""
    from pathlib import Path

    options = dict(options)
    pattern = options.get("pattern")
    if isinstance(pattern, str):
        path = Path(base, pattern).expanduser()
        try:
            options["pattern"] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InvalidInput(f"`pattern={pattern!r}` cannot be read as .npy ({error}).") from None
    return options


def label(options: Mapping) -> str:
    """Return a trigger as a short text for tables, e.g. "random_patch size=3"; unsaid are defaults that rarely vary."""
    usual = {name: value for name, value in _defaults(options["kind"]).items() if name in _RARE}
    said = {name: value for name, value in sorted(options.items()) if name != "kind"}
    rest = (f"{k}={_short(v)}" for k, v in said.items() if k not in usual or v != usual[k])
    return " ".join([options["kind"], *rest])


_RARE = ("position", "per_class", "alpha", "noise")
_DRAWN = ("seed", "draw")  # these follow the grid's own seed and draw unless they are given


def _defaults(kind):
    parameters = inspect.signature(KINDS[kind]).parameters.items()
    given = {name: p.default for name, p in parameters if p.default is not inspect.Parameter.empty}
    return {name: value for name, value in given.items() if value is not None and name not in _DRAWN}


def _short(value):
    text = "x".join(map(str, value)) if isinstance(value, list) and len(str(value)) < 20 else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _options(table, source):
    """Return {option: list of values} of one table; unknown options are refused with the line."""
    if not isinstance(table, Mapping):
        raise source.refuse(
            f"`trigger={table!r}` is not a table. Write for example {{ kind = 'random_patch', size = 3 }}.", "trigger"
        )
    if "kind" not in table:
        raise source.refuse(f"`trigger` has no `kind`. It is one of {', '.join(KINDS)}.", "trigger")
    axes = {name: _values(name, value, source) for name, value in table.items()}
    for kind in axes["kind"]:
        if kind not in KINDS:
            known = ", ".join(KINDS)
            hint = nearest(str(kind), KINDS)
            raise source.refuse(
                f"`trigger` has the unknown kind {kind!r}. {hint}Known kinds: {known}.", "trigger", "kind"
            )
        known = list(inspect.signature(KINDS[kind]).parameters)
        for name in axes:
            if name != "kind" and name not in known:
                hint = nearest(name, known)
                several = " Use a list of tables for kinds with different options." if len(axes["kind"]) > 1 else ""
                raise source.refuse(
                    f"`trigger` of kind {kind!r} has no option `{name}`. {hint}It takes {', '.join(known) or 'none'}."
                    + several,
                    "trigger",
                    name,
                )
    return axes


def _values(name, value, source):
    """Return the values of an option: a list is an axis, but a pattern, and a position of two numbers, is one value."""
    is_place = name == "position" and isinstance(value, list | tuple) and len(value) == 2
    is_place = is_place and all(isinstance(v, int) for v in value)
    if not isinstance(value, list | tuple):
        return [value]
    if name == "pattern" or is_place:
        return [_plain(value)]
    if not value:
        raise source.refuse(f"`{name}` in `trigger` is empty. Give at least one value.", "trigger", name)
    return [_plain(v) for v in value]


def _plain(value):
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _product_size(table):
    size = 1
    for values in table.values():
        size *= len(values)
    return size
