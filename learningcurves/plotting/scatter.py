"""The slope against what the backdoor does in the end: one point a cell."""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D

from learningcurves.plotting.labels import axis_label, common_loss, name_value
from learningcurves.plotting.scales import choose_scale, set_scale
from learningcurves.plotting.style import (
    COLUMN,
    INK,
    SEQUENTIAL,
    Display,
    figure,
    group_styles,
    local,
    outside_legend,
    sort_groups,
    take_axes,
)
from learningcurves.plotting.tables import is_ok, need_columns, to_floats


class SlopeScatterDisplay(Display):
    """The slope against what the backdoor does: a panel a measure, a marker a group, colour the regularisation.

    Parameters
    ----------
    points : DataFrame
        Columns group, slope, color, ok, and one column a measure; one row a cell.
    measures : sequence of str
    y, color, group : str
        What they are, in the words of the table.
    loss : str, optional

    Attributes
    ----------
    scatters_ : dict of (measure, group) -> PathCollection
    failures_ : dict of measure -> PathCollection
        Cells whose slope failed, as crosses at the left edge, at the height of their measure.
    colorbar_, ax_, figure_, legend_
    """

    def __init__(
        self, *, points, measures=("bk", "accuracy_clean"), y="slope", color="reg", group="learner", loss=None
    ):
        self.points = points
        self.measures = tuple(measures)
        self.y = y
        self.color = color
        self.group = group
        self.loss = loss

    @classmethod
    def from_frame(
        cls, frame, *, slope="slope", measures=("bk", "accuracy_clean"), color="reg", group="learner", loss=None,
        ax=None, **plot_kw,
    ):  # fmt: skip
        """Draw a tidy table, one row a cell: every row is a point, nothing is averaged.

        Parameters
        ----------
        frame : DataFrame
            Columns `slope`, `color`, `group`, the measures, and status if some cells failed.
        slope : str, default="slope"
            The column on the x axis: slope, theta, relative, per_unit_weight.
        measures : sequence of str, default=("bk", "accuracy_clean")
            One panel each.
        color, group : str
        loss : str, optional
        ax : Axes or sequence of Axes, optional
            One a measure.
        **plot_kw
            Passed to `plot`.

        Returns
        -------
        SlopeScatterDisplay
        """
        measures = (measures,) if isinstance(measures, str) else tuple(measures)
        need_columns(frame, [slope, color, group, *measures])
        finite = np.isfinite(to_floats(frame[slope]))
        points = pd.DataFrame(
            {"group": frame[group], "slope": frame[slope], "color": frame[color], "ok": is_ok(frame) & finite}
        )
        points[list(measures)] = frame[list(measures)]
        display = cls(
            points=points, measures=measures, y=slope, color=color, group=group, loss=common_loss(frame, loss)
        )
        return display.plot(ax=ax, **plot_kw)

    def plot(self, ax=None, *, xscale="auto", legend=True, width=None) -> "SlopeScatterDisplay":
        """Draw.

        Parameters
        ----------
        ax : Axes or sequence of Axes, optional
            One a measure.
        xscale : {"auto", "log", "symlog", "linear"}
        legend : bool, default=True
        width : float, optional
            Width of a new figure in inches; by default one column for up to two measures.

        Returns
        -------
        SlopeScatterDisplay
            Itself.
        """
        good = self.points[self.points["ok"]]
        xscale, self.sign_ = choose_scale(good["slope"], self.y, xscale)
        groups = sort_groups(self.points["group"].unique())
        styles = group_styles(groups)
        colours = self.points["color"].to_numpy(dtype=float)
        limits = (np.nanmin(colours), np.nanmax(colours))
        norm = LogNorm(*limits) if limits[0] > 0 and limits[1] > 10 * limits[0] else Normalize(*limits)
        self.scatters_, self.failures_ = {}, {}
        with local(ax):
            n = len(self.measures)
            if ax is None:
                width = width or COLUMN * max(1.0, n / 2)
                self.figure_, grid = figure(n, 1, width, aspect=1.15 if n > 1 else 0.8, sharex=True)
                flat = list(grid.ravel())
                self.ax_ = grid[0] if n > 1 else flat[0]
            else:
                flat = take_axes(ax, n, "this scatter")
                self.figure_, self.ax_ = flat[0].figure, ax
            look = {"norm": norm, "cmap": SEQUENTIAL, "s": 14}
            for axes, measure in zip(flat, self.measures, strict=True):
                set_scale(axes, "x", xscale, good["slope"])
                self._draw(axes, measure, styles, look)
                axes.set_ylabel(axis_label(measure, self.loss))
            label = axis_label(f"-{self.y}" if self.sign_ < 0 else self.y, self.loss)
            if ax is None and n > 1:
                self.figure_.supxlabel(label, fontsize=8)
            else:
                for axes in flat:
                    axes.set_xlabel(label)
            first = next(iter(self.scatters_.values()))
            self.colorbar_ = self.figure_.colorbar(first, ax=flat, label=axis_label(self.color), aspect=25, pad=0.02)
            self.colorbar_.outline.set_linewidth(0.4)
            grey = {"linestyle": "", "markerfacecolor": "#bbbbbb", "markeredgecolor": INK, "markeredgewidth": 0.3}
            handles = [Line2D([], [], marker=styles[g].marker, label=name_value(self.group, g), **grey) for g in groups]
            if self.failures_:
                handles.append(Line2D([], [], color=INK, marker="x", linestyle="", label="no slope"))
            host = self.figure_ if ax is None else None
            self.legend_ = outside_legend(host, flat[0], handles if legend else [])
        return self

    def _draw(self, axes, measure, styles, look):
        """Draw the points of one measure, a marker a group, and crosses at the edge for cells without a slope."""
        good, lost = self.points[self.points["ok"]], self.points[~self.points["ok"]]
        for group in sort_groups(styles):
            rows = good[good["group"] == group]
            self.scatters_[measure, group] = axes.scatter(
                self.sign_ * rows["slope"],
                rows[measure],
                c=rows["color"].to_numpy(dtype=float),
                marker=styles[group].marker,
                linewidth=0.3,
                edgecolor=INK,
                **look,
            )
        if len(lost):
            self.failures_[measure] = axes.scatter(
                np.full(len(lost), 0.02),
                lost[measure],
                c=lost["color"].to_numpy(dtype=float),
                marker="x",
                linewidth=1.0,
                transform=axes.get_yaxis_transform(),
                **look,
            )
            axes.margins(x=0.1)
