"""One slope: the triggered loss around its beta, refitted, and the tangent that the slope promises."""

import numpy as np
from matplotlib.lines import Line2D

from learningcurves.plotting.labels import axis_label, format_value
from learningcurves.plotting.style import (
    COLUMN,
    INK,
    Display,
    figure,
    group_styles,
    local,
    outside_legend,
    take_axes,
)
from learningcurves.plotting.tables import need_columns


class TangentDisplay(Display):
    """The triggered loss near one beta and its tangent there.

    A slope is right when the tangent touches; how soon the two part says how far the slope alone may be trusted. For
    the hinge loss a thin vertical line shows the breakpoint, where the derivative changes.

    Parameters
    ----------
    frame : DataFrame
        Columns beta and loss_triggered, around `at`.
    at, loss, value : float
        Where the slope is taken, the loss and the derivative there.
    breakpoint : float, default=inf
    kind : str, optional
        Name of the loss; decides the unit.

    Attributes
    ----------
    line_, tangent_, point_, breakpoint_ : Line2D
    ax_, figure_, legend_
    """

    def __init__(self, *, frame, at, loss, value, breakpoint=np.inf, kind=None):
        self.frame = frame
        self.at = at
        self.loss = loss
        self.value = value
        self.breakpoint = breakpoint
        self.kind = kind

    @classmethod
    def from_slope(cls, slope, *, ax=None, **plot_kw):
        """Draw one `Slope`; the loss around it is solved here (`Slope.nearby`)."""
        frame = need_columns(slope.nearby(), ["beta", "loss_triggered"])
        display = cls(
            frame=frame,
            at=slope.at,
            loss=slope.loss,
            value=slope.value,
            breakpoint=slope.breakpoint,
            kind=slope.loss_name,
        )
        return display.plot(ax=ax, **plot_kw)

    def plot(self, ax=None, *, legend=True, width=COLUMN) -> "TangentDisplay":
        """Draw into `ax` or into a new figure of `width` inches; return itself."""
        beta, loss = (self.frame[c].to_numpy(dtype=float) for c in ("beta", "loss_triggered"))
        style = group_styles([""])[""]
        with local(ax):
            if ax is None:
                self.figure_, grid = figure(1, 1, width)
                self.ax_ = grid[0, 0]
            else:
                (self.ax_,) = take_axes(ax, 1, "a tangent display")
                self.figure_ = self.ax_.figure
            (self.line_,) = self.ax_.plot(beta, loss, color=style.color)
            (self.point_,) = self.ax_.plot([self.at], [self.loss], "o", color=style.color, clip_on=False)
            low, high = np.nanmin(loss), np.nanmax(loss)
            room = 0.15 * (high - low) or 0.1 * abs(high) or 1.0
            self.ax_.set_ylim(low - room, high + room)  # by the curve: a steep tangent may leave the axes
            self.tangent_ = self.ax_.axline(
                (self.at, self.loss), slope=self.value, color=INK, linewidth=0.6, linestyle=(0, (6, 2))
            )
            self.ax_.set_xlim(beta.min() - 0.02 * np.ptp(beta), beta.max() + 0.02 * np.ptp(beta))
            handles = [
                Line2D([], [], color=style.color, label="refitted"),
                Line2D(
                    [], [], color=INK, linewidth=0.6, linestyle=(0, (6, 2)), label=f"slope {format_value(self.value)}"
                ),
            ]
            self.breakpoint_ = None
            if self.breakpoint < beta.max():
                look = {"color": INK, "linewidth": 0.6, "linestyle": (0, (1, 2))}
                self.breakpoint_ = self.ax_.axvline(self.breakpoint, **look)
                handles.append(Line2D([], [], **look, label=f"breakpoint {format_value(self.breakpoint)}"))
            self.ax_.set_xlabel(axis_label("beta"))
            self.ax_.set_ylabel(axis_label("loss_triggered", self.kind))
            self.legend_ = outside_legend(self.figure_ if ax is None else None, self.ax_, handles if legend else [])
        return self
