"""Slopes, and any other measure of a cell, over regularisation."""

import numpy as np
from matplotlib.lines import Line2D

from learningcurves.plotting.labels import axis_label, common_loss, name_value
from learningcurves.plotting.scales import choose_scale, set_scale
from learningcurves.plotting.style import (
    COLUMN,
    INK,
    Display,
    figure,
    group_styles,
    local,
    outside_legend,
    sort_groups,
    take_axes,
)
from learningcurves.plotting.tables import need_columns, refuse_pooling, summarise


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
        return cls(summary=summary, x=x, y=y, group=group, loss=common_loss(frame, loss)).plot(ax=ax, **plot_kw)

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
        yscale, self.sign_ = choose_scale(table[["low", "mid", "high"]], self.y, yscale)
        xscale, _ = choose_scale(table["x"], self.x, xscale)
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
            set_scale(self.ax_, "x", xscale, table["x"])
            set_scale(self.ax_, "y", yscale, table[["low", "mid", "high"]])
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
