"""One look for every figure: colour, marker and line style by name, sizes, legends, saving.

Nothing here touches matplotlib's global settings for longer than one drawing call, and no figure goes through
pyplot: a display makes a `matplotlib.figure.Figure` of its own unless it is handed axes.
"""

import io
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from learningcurves.errors import InvalidInput
from learningcurves.plotting.labels import learner_name
from learningcurves.storage import write_atomic

COLUMN = 3.35  # inches: one column of a two-column page
PAGE = 7.0  # inches: the width of the text of such a page

# Petroff's ten-colour cycle, made to be told apart with any kind of colour vision (arXiv:2107.02270), as matplotlib
# >= 3.10 ships it under "petroff10"; written out so that older versions draw the same.
PALETTE = {
    "blue": "#3f90da",
    "yellow": "#ffa90e",
    "red": "#bd1f01",
    "grey": "#94a4a2",
    "purple": "#832db6",
    "brown": "#a96b59",
    "orange": "#e76300",
    "tan": "#b9ac70",
    "slate": "#717581",
    "cyan": "#92dadd",
}
INK = "#333333"  # what belongs to no group: tangents, floors, notes

SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"

_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so a figure looks the same on every machine
    "mathtext.fontset": "dejavusans",
    "text.usetex": False,
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "normal",
    "axes.titlepad": 3,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.title_fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.2,
    "axes.linewidth": 0.6,
    "axes.labelpad": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.8,
    "figure.dpi": 150,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "learningcurves",  # element ids from the content, not from chance
}


@dataclass(frozen=True)
class GroupStyle:
    """How one group is drawn: three redundant marks, so that a print without colour still tells groups apart."""

    color: str
    marker: str
    linestyle: Any

    def line(self, **changes) -> dict[str, Any]:
        """Return keyword arguments for `Axes.plot`, with `changes` applied."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle, **changes}


LEARNER_STYLES = {
    "logistic": GroupStyle(PALETTE["blue"], "o", "-"),
    "ridge": GroupStyle(PALETTE["yellow"], "s", (0, (5, 1.5))),
    "linear_svm": GroupStyle(PALETTE["red"], "^", (0, (5, 1.2, 1, 1.2))),
    "rbf_svm": GroupStyle(PALETTE["purple"], "D", (0, (1.2, 1.2))),
    "softmax": GroupStyle(PALETTE["slate"], "v", (0, (3, 1, 1, 1, 1, 1))),
    "poly_svm": GroupStyle(PALETTE["brown"], "P", (0, (7, 2))),
    "squared_hinge_svm": GroupStyle(PALETTE["orange"], ">", (0, (3, 1.2))),
    "network": GroupStyle(PALETTE["grey"], "X", (0, (8, 1.5, 2, 1.5))),
}
_SPARE_STYLES = (  # for groups without a fixed style, strongest contrast with paper first
    *LEARNER_STYLES.values(),
    GroupStyle(PALETTE["tan"], "<", (0, (2, 2))),
    GroupStyle(PALETTE["cyan"], "h", (0, (6, 1, 1, 1))),
)


def group_styles(groups: Iterable) -> dict[Any, GroupStyle]:
    """Return one style a group: learners by name, whatever else the figure holds; other groups in sorted order.

    Parameters
    ----------
    groups : iterable
        Distinct group values: names, or numbers such as values of `fraction`.
    """
    groups = list(dict.fromkeys(groups))
    fixed = {g: LEARNER_STYLES[n] for g in groups if isinstance(g, str) and (n := learner_name(g)) in LEARNER_STYLES}
    others = sort_groups(g for g in groups if g not in fixed)
    spare = [s for s in _SPARE_STYLES if s not in fixed.values()] or list(_SPARE_STYLES)
    if len(others) <= len(spare):
        return fixed | dict(zip(others, spare, strict=False))
    # More groups than distinct colours: an ordered colour map says at least which is larger.
    colours = matplotlib.colormaps[SEQUENTIAL](np.linspace(0, 0.9, len(others)))
    return fixed | {
        g: GroupStyle(matplotlib.colors.to_hex(c), spare[i % len(spare)].marker, spare[i % len(spare)].linestyle)
        for i, (g, c) in enumerate(zip(others, colours, strict=True))
    }


def sort_groups(groups: Iterable) -> list:
    """Return groups in drawing order: learners in the order of the palette, numbers by size, names by alphabet."""
    order = {name: i for i, name in enumerate(LEARNER_STYLES)}

    def key(group):
        if isinstance(group, str):
            return (1, order.get(learner_name(group), len(order)), group)
        return (0, float(group), "") if isinstance(group, int | float | np.number) else (2, 0, str(group))

    return sorted(groups, key=key)


def local(ax=None) -> AbstractContextManager:
    """Return a context in which the package's look holds; with axes of the caller, their own look is kept."""
    return nullcontext() if ax is not None else matplotlib.rc_context(_RC)


def figure(ncols: int = 1, nrows: int = 1, width: float = COLUMN, *, aspect: float = 0.72, **subplots):
    """Return a figure of `width` inches and its axes, an array of shape (nrows, ncols), without pyplot.

    Parameters
    ----------
    ncols, nrows : int
        Panels a row, and rows.
    width : float, default=3.35
        Width of the figure in inches: `COLUMN`, `PAGE`, or any other.
    aspect : float, default=0.72
        Height of one panel over its width, margins included.
    **subplots
        Passed to `Figure.subplots`, for example ``sharex=True``.

    Returns
    -------
    figure : matplotlib.figure.Figure
        With the constrained layout, so that labels and outside legends get their room.
    axes : ndarray of Axes, shape (nrows, ncols)
    """
    with local():
        height = nrows * aspect * width / ncols
        result = Figure(figsize=(width, height), layout="constrained")
        return result, result.subplots(nrows, ncols, squeeze=False, **subplots)


def take_axes(ax, n: int, what: str) -> list[Axes]:
    """Return the caller's axes as a list of exactly `n`, or say how many `what` needs."""
    axes = [ax] if isinstance(ax, Axes) else list(np.asarray(ax, dtype=object).ravel())
    if len(axes) != n or not all(isinstance(one, Axes) for one in axes):
        raise InvalidInput(
            f"`ax` holds {len(axes)} axes where {what} draws {n} panels. Pass a sequence of {n} Axes, or leave `ax` "
            "out and take the figure from `.figure_`."
        )
    return axes


def outside_legend(host, axes, handles):
    """Put a legend above the panels, where it hides no data; return it, or None without handles.

    `host` is the figure that the display made, which grows by the height of the legend, or None where the axes are
    the caller's: the legend then stands above `axes`, no wider than they are.
    """
    if not handles:
        return None
    labels = [h.get_label() for h in handles]
    if isinstance(host, Figure):
        rows = _legend_rows(labels, host.get_figwidth() - 0.2, size=7.5)
        host.set_figheight(host.get_figheight() + 0.1 + 0.16 * rows)  # the panels keep their size
        return host.legend(handles, labels, loc="outside upper center", ncols=-(-len(handles) // rows))
    room = axes.get_position().width * axes.figure.bbox.width / axes.figure.dpi
    rows = _legend_rows(labels, room, size=8)
    return axes.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1.02),
        borderaxespad=0,
        ncols=-(-len(handles) // rows),
        fontsize=8,
        frameon=False,
        columnspacing=1.0,
    )


def _legend_rows(labels, room: float, size: float) -> int:
    """Return the least number of rows in which the entries fit into `room` inches at a font of `size` points."""
    # A letter is about 0.62 of the font size wide, a handle with its gaps about five times the size.
    widths = [(5 + 0.62 * len(label.replace("$", ""))) * size / 72 for label in labels]
    for rows in range(1, len(widths)):
        if sum(max(widths[c : c + rows]) for c in range(0, len(widths), rows)) <= room:
            return rows
    return len(widths)


_METADATA: dict[str, dict[str, Any]] = {  # None drops the entry: no dates, no versions
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}


def render(figure: Figure, fmt: str, *, dpi: float = 300) -> bytes:
    """Return the figure as the bytes of a PNG, PDF or SVG file; the same figure gives the same bytes.

    The first call lays the figure out for good, since another pass of the automatic layout may move things by a hair.
    After adding to a saved figure, ask for it anew: ``figure.set_layout_engine("constrained")``.
    """
    buffer = io.BytesIO()
    with local():
        if figure.get_layout_engine() is not None:
            for _ in range(2):  # ticks follow from sizes, and sizes from ticks
                figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=fmt, dpi=dpi, metadata=_METADATA[fmt])
    return buffer.getvalue()


def save(figure: Figure, path, *, formats: Iterable[str] | None = None, dpi: float = 300) -> tuple[Path, ...]:
    """Write a figure whole or not at all, without dates: a second save gives the same bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : str or Path
        With the ending ``.png``, ``.pdf`` or ``.svg``; with `formats`, the name without ending.
    formats : iterable of {"png", "pdf", "svg"}, optional
        Write one file a format, named `path` plus the ending.
    dpi : float, default=300
        Pixels per inch of a PNG and of images inside PDF and SVG.

    Returns
    -------
    tuple of Path
        The files written.

    Raises
    ------
    InvalidInput
        If a format is none of the three; nothing is written then.
    """
    path = Path(path)
    if formats is None:
        targets = {path.suffix.lower().removeprefix("."): path}
    else:
        targets = {str(f).lower(): path.with_name(f"{path.name}.{str(f).lower()}") for f in formats}
    for fmt in targets:
        if fmt not in _METADATA:
            raise InvalidInput(f"`path={str(path)!r}` asks for the format {fmt!r}; use .png, .pdf or .svg.")
    content = {target: render(figure, fmt, dpi=dpi) for fmt, target in targets.items()}
    return tuple(write_atomic(target, data) for target, data in content.items())


class Display:
    """What all displays share: they save themselves, and a notebook shows them as a picture."""

    figure_: Any
    ax_: Any

    def save(self, path, *, formats: Iterable[str] | None = None, dpi: float = 300) -> tuple[Path, ...]:
        """Write the drawn figure; see `learningcurves.plotting.style.save`."""
        return save(self._drawn(), path, formats=formats, dpi=dpi)

    def _drawn(self) -> Figure:
        if not hasattr(self, "figure_"):
            raise InvalidInput(f"{type(self).__name__} is not drawn yet. Call `.plot()` first.")
        return self.figure_

    def _repr_png_(self) -> bytes | None:
        return render(self.figure_, "png", dpi=150) if hasattr(self, "figure_") else None
