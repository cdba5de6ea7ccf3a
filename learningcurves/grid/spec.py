"""A grid file becomes axes, axes become cells, and cells that share their work become tasks."""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from learningcurves.curves.curve import DEFAULT_BETA
from learningcurves.errors import InvalidInput
from learningcurves.grid.keys import AXES, KEYS, LEARNERS, RENAMED, REQUIRED
from learningcurves.grid.source import Source, nearest, read_toml
from learningcurves.grid.trigger_axis import expand, trigger_axis
from learningcurves.grid.version import MATHS_VERSION


@dataclass(frozen=True)
class Task:
    """Cells that share data, trigger, poisoned samples and learner, and differ in reg alone: solved together.

    Attributes
    ----------
    cells : tuple of dict
        What each cell is (JSON facts); its id is `cell_id`.
    places : dict
        Where data and weights lie on this machine; no part of what a cell is.
    """

    cells: tuple[dict, ...]
    places: dict = field(default_factory=dict)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The ids of the cells."""
        return tuple(cell_id(cell) for cell in self.cells)


@dataclass(frozen=True)
class GridSpec:
    """A checked grid.

    Attributes
    ----------
    axes : dict of str -> tuple
        Values of every axis in the order in which the grid is walked, the last one fastest.
    options : dict
        The keys that are no axes.
    source : Source
        The file it came from, for errors.
    """

    axes: dict
    options: dict
    source: Source = field(repr=False, default_factory=Source)

    def __len__(self):
        return _count({name: len(values) for name, values in self.axes.items()}, self.axes["learner"])

    def cells(self) -> Iterator[dict]:
        """Yield every cell as JSON facts, in the order of the table."""
        for task in self.tasks():
            yield from task.cells

    def tasks(self) -> Iterator[Task]:
        """Yield the tasks in the order of the table: reg is the fastest axis, so a task is a run of neighbours."""
        outer = [name for name in self.axes if name not in ("learner", "gamma", "reg")]
        places = self.places
        for values in itertools.product(*(self.axes[name] for name in outer)):
            facts = dict(zip(outer, values, strict=True))
            for learner in self.axes["learner"]:
                gammas = self.axes["gamma"] if learner == "rbf_svm" else (None,)
                for gamma in gammas:
                    cells = tuple(self._cell(facts, learner, gamma, reg) for reg in self.axes["reg"])
                    yield Task(cells, places)

    def _cell(self, facts, learner, gamma, reg):
        cell = {**facts, "learner": learner, "gamma": gamma, "reg": reg, "beta": list(self.options["beta"])}
        if cell["penalize_intercept"] is None:
            cell["penalize_intercept"] = float(LEARNERS[learner])
        if cell["draw"] == "paper" and self.options["seeds"]:
            cell["repeat_seed"] = self.options["seeds"][cell["repeat"]]
        if cell["extractor"] is not None:
            cell["extractor_size"] = self.options["extractor_size"]
        cell["half_beta"] = self.options["half_beta"]
        return json.loads(json.dumps({name: value for name, value in cell.items() if value is not None}))

    @property
    def places(self) -> dict:
        """Where things lie on this machine, as absolute paths."""
        base = os.getcwd()
        found = {name: self.options.get(name) for name in ("root", "weights", "cache")}
        return {"base": base} | {name: str(Path(base, p).expanduser()) for name, p in found.items() if p}

    @property
    def settings(self) -> dict:
        """What decides the numbers (JSON): a folder holds cells of one such dictionary only."""
        keys = ("beta", "seeds", "half_beta", "extractor_size")
        grid = {**self.axes, **{name: self.options[name] for name in keys}}
        return json.loads(json.dumps({name: value for name, value in grid.items() if value not in (None, (None,))}))


def from_settings(settings: Mapping) -> GridSpec:
    """Return the grid that `GridSpec.settings` describes, for reading a folder."""
    axes = {name: tuple(settings.get(name, (None,))) for name in AXES}
    return GridSpec(axes, {name: settings.get(name) for name, key in KEYS.items() if not key.axis})


def cell_id(cell: Mapping, maths_version: int = MATHS_VERSION) -> str:
    """Return the id of a cell: SHA-256 over its sorted JSON and the version of the mathematics, 32 hex digits."""
    text = json.dumps({"maths_version": maths_version, "cell": cell}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load_spec(spec, *, max_cells: int | None = None) -> GridSpec:
    """Return a checked grid.

    Parameters
    ----------
    spec : path of a TOML file, mapping, or GridSpec
        The keys are those of `learningcurves.grid.keys.KEYS`; every axis may hold one value or a list.
    max_cells : int, optional
        Refuse a larger grid; by default the key `max_cells`, else 100,000.

    Raises
    ------
    InvalidInput
        Naming the line of the file: unknown keys, empty axes, values that are none, contradictions, too many cells.
    """
    if isinstance(spec, GridSpec):
        return spec
    if isinstance(spec, Mapping):
        table, source = dict(spec), Source()
    elif isinstance(spec, str | os.PathLike):
        table, source = read_toml(spec)
    else:
        raise InvalidInput(f"`spec` is a {type(spec).__name__}; expected the path of a grid file (.toml) or a mapping.")
    _refuse_unknown(table, source)
    options = {
        name: _one(name, table[name], source) if name in table else key.default
        for name, key in KEYS.items()
        if not key.axis
    }
    options["beta"] = options["beta"] or tuple(DEFAULT_BETA)
    axes, triggers = {}, None
    for name in AXES:
        if name == "trigger" and name in table:
            triggers, n_triggers = trigger_axis(table[name], source)
            axes[name] = range(n_triggers)  # expanded only once the number of cells is known to be sane
        elif name == "repeat":
            axes[name] = _repeats(table.get(name), options["seeds"], source)
        else:
            axes[name] = _values(name, table, source)
    _check_gamma(table, axes, source)
    _check_paper(table, axes, options, source)
    limit: Any = options["max_cells"] if max_cells is None else _one("max_cells", max_cells, source)
    sizes = {name: len(values) for name, values in axes.items()}
    n_cells = _count(sizes, axes["learner"])
    if n_cells > limit:
        largest = sorted((n, name) for name, n in sizes.items() if n > 1)[::-1]
        product = " x ".join(f"{n} {name}" for n, name in largest)
        raise source.refuse(
            f"the grid has {n_cells:,} cells ({product}), more than `max_cells` = {limit:,}. "
            "Shorten an axis, or raise `max_cells` if you mean it.",
            largest[0][1],
        )
    if triggers is not None:
        axes["trigger"] = expand(triggers, source)
    axes["repeat"] = tuple(axes["repeat"])
    return GridSpec(axes, options, source)


def _count(sizes, learners):
    others = math.prod(n for name, n in sizes.items() if name not in ("learner", "gamma"))
    return others * sum(sizes["gamma"] if learner == "rbf_svm" else 1 for learner in learners)


def _refuse_unknown(table, source):
    for name in table:
        if name not in KEYS:
            hint = nearest(str(name), KEYS, RENAMED)
            raise source.refuse(f"unknown key `{name}`. {hint}Known keys: {', '.join(KEYS)}.", str(name))
    for name, key in KEYS.items():
        if key.default is REQUIRED and name not in table:
            raise source.refuse(f"the key `{name}` is missing: {key.meaning}.")


def _one(name, value, source):
    """Check the value of a key that is no axis."""
    if isinstance(value, list | tuple) and name not in ("beta", "seeds"):
        raise source.refuse(f"`{name}` is no axis, but holds a list. Give one value.", name)
    return _checked(name, value, source)


def _checked(name, value, source, line_of=None):
    try:
        return KEYS[name].check(value, name)
    except InvalidInput as error:
        raise source.refuse(str(error), name, value=line_of) from None


def _values(name, table, source):
    """Return the values of an axis, each checked, none twice."""
    if name not in table:
        return (KEYS[name].default,)
    given = table[name]
    if not isinstance(given, list | tuple):
        return (_checked(name, given, source),)
    if not given:
        raise source.refuse(f"`{name}` is an empty list: the grid would have no cells. Give at least one value.", name)
    values = []
    for value in given:
        where = value if isinstance(value, str | int | float) else None
        value = _checked(name, value, source, where)
        if value in values:
            raise source.refuse(f"`{name}` holds {value!r} twice. Leave one out.", name, value=where)
        values.append(value)
    return tuple(values)


def _repeats(given, seeds, source):
    """Return the indices of the repeats: 3 stands for 0, 1, 2."""
    hint = "It is the number of repeats, or a list of their indices from 0."
    if given is None:
        return tuple(range(len(seeds))) if seeds else (0,)
    many = isinstance(given, list | tuple)
    for value in given if many else [given]:
        if isinstance(value, bool) or not isinstance(value, int) or value < (0 if many else 1):
            raise source.refuse(f"`repeat={value!r}` is not a whole number from {0 if many else 1}. {hint}", "repeat")
    if many and (not given or len(set(given)) < len(given)):
        raise source.refuse(f"`repeat={given!r}` is empty or names a repeat twice. {hint}", "repeat")
    return tuple(given) if many else range(given)


def _check_gamma(table, axes, source):
    """Let gamma go with rbf_svm only: other learners of the same grid have no gamma and are not repeated over it."""
    if "rbf_svm" in axes["learner"]:
        axes["gamma"] = ("scale",) if axes["gamma"] == (None,) else axes["gamma"]
    elif "gamma" in table:
        raise source.refuse(
            f"`gamma` is given, but no learner here has one ({', '.join(axes['learner'])}). "
            "Leave it out, or add learner 'rbf_svm'.",
            "gamma",
        )


def _check_paper(table, axes, options, source):
    seeds, repeats = options["seeds"], axes["repeat"]
    if seeds is not None:
        if "paper" not in axes["draw"]:
            raise source.refuse(
                "`seeds` belongs to draw = 'paper'. Otherwise repeats derive their seeds from `seed`; leave it out.",
                "seeds",
            )
        if max(repeats) >= len(seeds):
            raise source.refuse(
                f"`repeat` asks for repeat {max(repeats)}, but `seeds` holds {len(seeds)} ({list(seeds)}).", "seeds"
            )
    if "weights" in table and axes["extractor"] == (None,):
        raise source.refuse("`weights` is given without an `extractor`. Add extractor = 'mobilenet_v2'.", "weights")
    if "cache" in table and axes["extractor"] == (None,):
        raise source.refuse("`cache` holds features, but there is no `extractor`. Leave it out.", "cache")
    needs = [e for e in axes["extractor"] if e is not None]
    if needs and options["weights"] is None:
        raise source.refuse(
            f"extractor {needs[0]!r} needs the key `weights`: the path of its .safetensors.", "extractor"
        )
    options["extractor_size"] = options["extractor_size"] or (128 if needs else None)
