"""Heat maps over two axes of a grid, such as accuracy over regularisation and kernel parameter."""

import matplotlib
import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

from learningcurves.errors import InvalidInput
from learningcurves.plotting.labels import axis_label, format_value
from learningcurves.plotting.scales import edges
from learningcurves.plotting.style import COLUMN, INK, SEQUENTIAL, Display, figure, local, outside_legend, take_axes
from learningcurves.plotting.tables import need_columns, refuse_pooling, summarise


class MapDisplay(Display):
    """Heat maps over two axes, one panel a measure: the median over repeats of each cell.

    Cells without a finished repeat are left white with a cross. The safe region is outlined along the cells' edges,
    without interpolation: it claims nothing between the cells that were run.

    Parameters
    ----------
    maps : dict of str -> DataFrame
        Measure -> table with index y and columns x, both sorted; NaN where a cell failed.
    safe : DataFrame of bool, optional
        The same index and columns: which cells are in the safe region.
    boundaries : sequence of (x, y) arrays, optional
        Lines to draw in, such as the ends of a safe range over the fraction, in the units of the axes.
    x, y : str
    limits : dict of str -> (low, high), optional
        Range of the colours; by default 0 to 1 for backdoor accuracy, the range of the values for the others.

    Attributes
    ----------
    meshes_ : dict of str -> QuadMesh
    failures_, regions_ : dict of str -> Line2D, LineCollection
    boundaries_ : dict of str -> list of Line2D
    colorbars_ : dict of str -> Colorbar
    ax_ : Axes, or ndarray of Axes, one a measure
    figure_, legend_
    """

    def __init__(self, *, maps, safe=None, boundaries=(), x="gamma", y="reg", limits=None):
        self.maps = maps
        self.safe = safe
        self.boundaries = list(boundaries)
        self.x = x
        self.y = y
        self.limits = dict(limits or {})

    @classmethod
    def from_frame(
        cls, frame, *, x="gamma", y="reg", values=("bk", "accuracy_clean"), safe=None, boundaries=(), limits=None,
        ax=None, **plot_kw,
    ):  # fmt: skip
        """Draw a tidy table, one row a cell; rows equal in all but repeat and seed are repeats.

        Parameters
        ----------
        frame : DataFrame
            Columns `x`, `y`, `values`; status if some cells failed.
        x, y : str
            For example gamma and reg, or fraction and reg.
        values : str or sequence of str, default=("bk", "accuracy_clean")
        safe : str, optional
            A column of bool: a cell is in the safe region if all its rows are.
        boundaries : sequence of (x, y) arrays, optional
        limits : dict of str -> (low, high), optional
        ax : Axes or sequence of Axes, optional
            One a measure.
        **plot_kw
            Passed to `plot`.

        Returns
        -------
        MapDisplay
        """
        values = (values,) if isinstance(values, str) else tuple(values)
        need_columns(frame, [x, y, *values, safe])
        refuse_pooling(frame, [x, y, *values])
        for axis in (x, y):
            if not pd.api.types.is_numeric_dtype(frame[axis]):
                raise InvalidInput(f"`{axis}` is not numeric ({frame[axis].dtype}); the axes of a map need numbers.")
        maps = {v: summarise(frame, [y, x], v).pivot(index=y, columns=x, values="mid") for v in values}
        region = None
        if safe is not None:
            region = frame.groupby([y, x])[safe].agg(lambda rows: bool(rows.eq(True).all()))
            region = region.unstack(fill_value=False).astype(bool)
        return cls(maps=maps, safe=region, boundaries=boundaries, x=x, y=y, limits=limits).plot(ax=ax, **plot_kw)

    def plot(self, ax=None, *, legend=True, colorbar=True, width=None) -> "MapDisplay":
        """Draw.

        Parameters
        ----------
        ax : Axes or sequence of Axes, optional
            One a measure.
        legend : bool, default=True
            Whether to name the outline and the crosses above the panels.
        colorbar : bool, default=True
            Whether each panel has its own; without it give several maps one of `meshes_`, and `limits` in common.
        width : float, optional
            Width of a new figure in inches; by default one column for up to two measures.

        Returns
        -------
        MapDisplay
            Itself.
        """
        names = list(self.maps)
        self.meshes_, self.failures_, self.regions_ = {}, {}, {}
        self.boundaries_, self.colorbars_ = {}, {}
        with local(ax):
            if ax is None:
                width = width or COLUMN * max(1.0, len(names) / 2)
                self.figure_, panels = figure(
                    len(names), 1, width, aspect=1.25 if len(names) > 1 else 0.8, sharex=True, sharey=True
                )
                flat = list(panels.ravel())
                self.ax_ = flat[0] if len(names) == 1 else panels[0]
            else:
                flat = take_axes(ax, len(names), "this map")
                self.figure_, self.ax_ = flat[0].figure, ax
            for i, (axes, name) in enumerate(zip(flat, names, strict=True)):
                self._draw(axes, name, narrow=len(names) > 1 or ax is not None)
                if colorbar:
                    self._add_colorbar(axes, name, narrow=len(names) > 1)
                if len(names) == 1 or ax is not None:
                    axes.set_xlabel(axis_label(self.x))
                if i == 0 or ax is not None:
                    axes.set_ylabel(axis_label(self.y))
            if ax is None and len(names) > 1:
                self.figure_.supxlabel(axis_label(self.x), fontsize=8)
            handles = []
            if self.regions_:
                handles.append(Line2D([], [], color="black", linewidth=1.6, label="safe region"))
            if self.boundaries:
                handles.append(Line2D([], [], color="black", linewidth=1.2, linestyle="--", label="safe range"))
            if self.failures_:
                handles.append(Line2D([], [], color=INK, marker="x", linestyle="", label="failed"))
            host = self.figure_ if ax is None else None
            self.legend_ = outside_legend(host, flat[0], handles if legend else [])
        return self

    def _draw(self, axes, name, *, narrow):
        table = self.maps[name]
        xs, ys = table.columns.to_numpy(dtype=float), table.index.to_numpy(dtype=float)
        logs = [_is_log(self.x, xs), _is_log(self.y, ys)]
        x_edges, y_edges = edges(xs, log=logs[0]), edges(ys, log=logs[1])
        values = np.ma.masked_invalid(table.to_numpy(dtype=float))
        low, high = self.limits.get(name, (0.0, 1.0) if name in ("bk", "asr") else _range_of(values))
        for which, log, where in (("x", logs[0], xs), ("y", logs[1], ys)):
            if log:
                getattr(axes, f"set_{which}scale")("log")
            _mark(getattr(axes, f"{which}axis"), where, log, most=3 if narrow and which == "x" else 5)
        self.meshes_[name] = axes.pcolormesh(
            x_edges, y_edges, values, cmap=SEQUENTIAL, norm=Normalize(low, high), edgecolors="none", linewidth=0
        )
        axes.set_xlim(x_edges[0], x_edges[-1])
        axes.set_ylim(y_edges[0], y_edges[-1])
        axes.spines[["top", "right"]].set_visible(True)
        rows, columns = np.nonzero(np.ma.getmaskarray(values))
        if len(rows):
            look = {"marker": "x", "color": INK, "linestyle": "", "markersize": 3.5}
            (self.failures_[name],) = axes.plot(xs[columns], ys[rows], **look)
        # Black on white, so that a line shows on dark and on light cells; the white goes under all of it first.
        if self.safe is not None:
            inside = self.safe.reindex(index=table.index, columns=table.columns, fill_value=False).to_numpy(dtype=bool)
            segments = outline(inside, x_edges, y_edges)
            for color, wide in (("white", 3.0), ("black", 1.5)):
                lines = LineCollection(segments, colors=color, linewidths=wide, capstyle="round", zorder=3)
                self.regions_[name] = axes.add_collection(lines, autolim=False)
        self.boundaries_[name] = []
        for bx, by in self.boundaries:
            axes.plot(bx, by, color="white", linewidth=2.6, zorder=3)
            self.boundaries_[name] += axes.plot(bx, by, color="black", linewidth=1.2, linestyle="--", zorder=3)
        axes.set_xlim(x_edges[0], x_edges[-1])
        axes.set_ylim(y_edges[0], y_edges[-1])

    def _add_colorbar(self, axes, name, *, narrow):
        bar = self.figure_.colorbar(self.meshes_[name], ax=axes, location="top", aspect=18, pad=0.03)
        bar.set_label(axis_label(name))
        bar.locator = matplotlib.ticker.MaxNLocator(3 if narrow else 5)
        bar.update_ticks()
        bar.outline.set_linewidth(0.4)
        self.colorbars_[name] = bar


def outline(inside: np.ndarray, x_edges: np.ndarray, y_edges: np.ndarray) -> list[list[tuple[float, float]]]:
    """Return the segments between cells inside and outside, the border of the map counted as outside.

    Parameters
    ----------
    inside : ndarray of bool, shape (ny, nx)
    x_edges, y_edges : ndarray of shape (nx + 1,), (ny + 1,)
    """
    padded = np.pad(inside, 1)
    segments = []
    for r, c in zip(*np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1]), strict=True):
        segments.append([(float(x_edges[c]), float(y_edges[r])), (float(x_edges[c]), float(y_edges[r + 1]))])
    for r, c in zip(*np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1]), strict=True):
        segments.append([(float(x_edges[c]), float(y_edges[r])), (float(x_edges[c + 1]), float(y_edges[r]))])
    return segments


def _is_log(column, values) -> bool:
    return bool((values > 0).all()) and (column in ("reg", "gamma") or values.max() > 20 * values.min())


def _range_of(values) -> tuple[float, float]:
    if values.count() == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _mark(axis, values, log, *, most):
    """Put ticks at values that were run, few enough to be read; log axes over decades keep theirs."""
    if log and values.max() / values.min() >= 30:
        axis.set_major_locator(matplotlib.ticker.LogLocator(numticks=most + 1))
        axis.set_minor_locator(matplotlib.ticker.NullLocator())
        return
    places = np.log(values) if log else values
    shown = [0]
    for i in range(1, len(values)):
        if places[i] - places[shown[-1]] >= (places[-1] - places[0]) / (most + 1):
            shown.append(i)
    axis.set_major_locator(matplotlib.ticker.FixedLocator(values[shown].tolist()))
    axis.set_minor_locator(matplotlib.ticker.NullLocator())
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda v, _: format_value(v)))
