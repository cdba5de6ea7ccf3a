"""Slopes over regularisation, and slopes against what the backdoor does in the end."""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D

from learningcurves.errors import InvalidInput
from learningcurves.plotting.labels import axis_label, learner_loss, name_value
from learningcurves.plotting.scales import one_sign, set_log, set_symlog
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
from learningcurves.plotting.tables import is_ok, need_columns, refuse_pooling, summarise

_BOUNDED = ("theta", "bk", "asr", "accuracy_clean", "nu", "half_beta")


def _common_loss(frame, loss):
    """Return the loss all learners of the table share the unit of, else None."""
    if loss is not None or "learner" not in frame.columns:
        return loss
    losses = {learner_loss(name) for name in frame["learner"].unique()}
    logs = losses <= {"logistic", "softmax"}
    return losses.pop() if len(losses) == 1 or logs else None


def _scale_of(values, column, scale):
    """Return (scale, sign): "log" with the sign that makes all values positive, "symlog", or "linear"."""
    if scale not in ("auto", "log", "symlog", "linear"):
        raise InvalidInput(f"the scale {scale!r} is not one of 'auto', 'log', 'symlog', 'linear'.")
    sign = one_sign(values)
    if scale == "auto":
        scale = "linear" if column in _BOUNDED else "log" if sign else "symlog"
    if scale == "log" and not sign:
        raise InvalidInput(
            f"`{column}` has both signs or zeros, which a log scale would drop. Use 'symlog', or leave 'auto'."
        )
    return scale, (sign if scale == "log" else 1)


def _set_scale(axes, which, scale, values):
    if scale == "symlog":
        set_symlog(axes, which, values)
    elif scale == "log":
        set_log(axes, which, values)


class SlopeDisplay(Display):
    """Slope against regularisation: one line a group, the median over repeats with its 10-90 % band.

    A negative slope means that the backdoor is learned. Where all slopes are negative the axis is the logarithm of
    minus the slope, else symmetric-log: neither saturates as an arctan does. Cells without a finished repeat leave a
    gap, with a cross at the foot of the axes; cells of which some repeats failed get a small cross.

    Parameters
    ----------
    summary : DataFrame
        Columns group, x, low, mid, high, n, n_failed.
    x, y, group : str
        What they are, in the words of the table.
    loss : str, optional
        The loss the groups share; decides the unit.

    Attributes
    ----------
    lines_, bands_, failures_ : dict of group -> artist
        On a log axis of negative slopes the lines hold minus the slope (`sign_` is -1).
    ax_, figure_, legend_
    """

    def __init__(self, *, summary, x="reg", y="slope", group="learner", loss=None):
        self.summary = summary
        self.x = x
        self.y = y
        self.group = group
        self.loss = loss

    @classmethod
    def from_frame(cls, frame, *, x="reg", y="slope", group="learner", loss=None, ax=None, **plot_kw):
        """Draw a tidy table, one row a cell; rows equal in all but repeat and seed are repeats.

        Parameters
        ----------
        frame : DataFrame
            Columns `x`, `y`, `group`, and status if some cells failed.
        x, y, group : str
            `y` may be any measure: slope, theta, relative, per_unit_weight, area.
        loss : str, optional
            Read from the column learner by default.
        ax : Axes, optional
        **plot_kw
            Passed to `plot`.

        Returns
        -------
        SlopeDisplay
        """
        need_columns(frame, [x, y, group])
        refuse_pooling(frame, [x, group])
        summary = summarise(frame, [group, x], y).rename(columns={group: "group", x: "x"})
        return cls(summary=summary, x=x, y=y, group=group, loss=_common_loss(frame, loss)).plot(ax=ax, **plot_kw)

    def plot(self, ax=None, *, xscale="auto", yscale="auto", legend=True, width=COLUMN) -> "SlopeDisplay":
        """Draw.

        Parameters
        ----------
        ax : Axes, optional
        xscale, yscale : {"auto", "log", "symlog", "linear"}
            auto: log where all values share a sign, symlog where they do not, linear for measures with bounds.
        legend : bool, default=True
        width : float, default=3.35
            Width of a new figure in inches.

        Returns
        -------
        SlopeDisplay
            Itself.
        """
        table = self.summary
        yscale, self.sign_ = _scale_of(table[["low", "mid", "high"]], self.y, yscale)
        xscale, _ = _scale_of(table["x"], self.x, xscale)
        groups = sort_groups(table["group"].unique())
        styles = group_styles(groups)
        self.lines_, self.bands_, self.failures_ = {}, {}, {}
        with local(ax):
            if ax is None:
                self.figure_, grid = figure(1, 1, width)
                self.ax_ = grid[0, 0]
            else:
                (self.ax_,) = take_axes(ax, 1, "a slope display")
                self.figure_ = self.ax_.figure
            _set_scale(self.ax_, "x", xscale, table["x"])
            _set_scale(self.ax_, "y", yscale, table[["low", "mid", "high"]])
            for group in groups:
                rows, style = table[table["group"] == group], styles[group]
                (self.lines_[group],) = self.ax_.plot(rows["x"], self.sign_ * rows["mid"], **style.line())
                if (rows["high"] > rows["low"]).any():
                    self.bands_[group] = self.ax_.fill_between(
                        rows["x"],
                        self.sign_ * rows["low"],
                        self.sign_ * rows["high"],
                        color=style.color,
                        alpha=0.2,
                        linewidth=0,
                    )
                lost = rows[rows["n_failed"] > 0]
                if len(lost):
                    self.failures_[group] = self.ax_.scatter(
                        lost["x"],
                        np.full(len(lost), 0.03 + 0.05 * len(self.failures_)),
                        s=np.where(lost["n"] == 0, 20.0, 7.0),
                        marker="x",
                        color=style.color,
                        linewidth=1.0,
                        transform=self.ax_.get_xaxis_transform(),
                        clip_on=False,
                    )
            self._leave_room_for_crosses()
            self.ax_.set_xlabel(axis_label(self.x))
            self.ax_.set_ylabel(axis_label(f"-{self.y}" if self.sign_ < 0 else self.y, self.loss))
            handles = [Line2D([], [], **styles[g].line(label=name_value(self.group, g))) for g in groups]
            if self.failures_:
                handles.append(Line2D([], [], color=INK, marker="x", linestyle="", label="failed"))
            host = self.figure_ if ax is None else None
            self.legend_ = outside_legend(host, self.ax_, handles if legend else [])
        return self

    def _leave_room_for_crosses(self):
        """Raise the data above the strip of crosses, so that a cross is never read as a value."""
        if not self.failures_:
            return
        transform, strip = self.ax_.transScale, 0.04 + 0.05 * len(self.failures_)
        low, high = self.ax_.get_ylim()
        (_, a), (_, b) = transform.transform([(1.0, low), (1.0, high)])
        _, bottom = transform.inverted().transform((0.0, (a - strip * b) / (1 - strip)))
        self.ax_.set_ylim(bottom, high)


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
        finite = np.isfinite(pd.to_numeric(frame[slope], errors="coerce").to_numpy(dtype=float))
        points = pd.DataFrame(
            {"group": frame[group], "slope": frame[slope], "color": frame[color], "ok": is_ok(frame) & finite}
        )
        points[list(measures)] = frame[list(measures)]
        display = cls(
            points=points, measures=measures, y=slope, color=color, group=group, loss=_common_loss(frame, loss)
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
        xscale, self.sign_ = _scale_of(good["slope"], self.y, xscale)
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
            for axes, measure in zip(flat, self.measures, strict=True):
                _set_scale(axes, "x", xscale, good["slope"])
                for group in groups:
                    rows = good[good["group"] == group]
                    self.scatters_[measure, group] = axes.scatter(
                        self.sign_ * rows["slope"],
                        rows[measure],
                        c=rows["color"].to_numpy(dtype=float),
                        norm=norm,
                        cmap=SEQUENTIAL,
                        marker=styles[group].marker,
                        s=14,
                        linewidth=0.3,
                        edgecolor=INK,
                    )
                lost = self.points[~self.points["ok"]]
                if len(lost):
                    self.failures_[measure] = axes.scatter(
                        np.full(len(lost), 0.02),
                        lost[measure],
                        marker="x",
                        s=14,
                        linewidth=1.0,
                        c=lost["color"].to_numpy(dtype=float),
                        norm=norm,
                        cmap=SEQUENTIAL,
                        transform=axes.get_yaxis_transform(),
                    )
                    axes.margins(x=0.1)
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
