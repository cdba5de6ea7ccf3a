"""The learning curve: losses (and accuracies) on triggered and clean test samples over the backdoor weight."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from learningcurves.errors import InvalidInput
from learningcurves.plotting.curve_tables import ACCURACIES, LOSSES, curve_frame, curve_tables, tangent_points
from learningcurves.plotting.labels import axis_label, learner_loss, name_value
from learningcurves.plotting.panels import panel_figure
from learningcurves.plotting.scales import set_symlog
from learningcurves.plotting.style import (
    INK,
    Display,
    GroupStyle,
    group_styles,
    local,
    outside_legend,
    sort_groups,
    take_axes,
)
from learningcurves.plotting.tables import need_columns, refuse_pooling, several

_DRAWN_AS: dict[str, Any] = {"loss_triggered": "-", "bk": "-", "loss_clean": ":", "accuracy_clean": ":"}
_TANGENT: dict[str, Any] = {"linewidth": 0.6, "linestyle": (0, (6, 2))}
_FLOOR: dict[str, Any] = {"linewidth": 0.6, "linestyle": (0, (1, 2))}


class CurveDisplay(Display):
    """Backdoor learning curves: one panel a regularisation, one colour a poisoned fraction.

    Solid lines are triggered test samples with the attacker's label, dotted lines clean test samples. Bands are the
    10-90 % range over repeats. A thin line is the tangent at the smallest beta, that is, what the slope there promises;
    it ends where it leaves the range of the triggered loss.

    Parameters
    ----------
    summary : DataFrame
        Columns panel, group, quantity (``loss_triggered``, ``loss_clean``, ``bk``, ``accuracy_clean``), x, low, mid,
        high, n_failed.
    tangents : DataFrame, optional
        Columns panel, group, x, y, slope: a point on the triggered loss and the derivative there.
    floors : DataFrame, optional
        Columns panel, group, y: backdoor accuracy without any backdoor, drawn as a thin line.
    x, group, panel : str, optional
        What x, groups and panels are, in the words of the table.
    loss : str, optional
        Loss of the learner; decides the unit.

    Attributes
    ----------
    lines_ : dict of (panel, group, quantity) -> Line2D
    bands_ : dict of (panel, group, quantity) -> FillBetweenPolyCollection
    tangents_, floors_ : dict of (panel, group) -> Line2D
    failures_ : list of Line2D
        Crosses at the foot of the panel, where no repeat finished.
    ax_ : Axes, or ndarray of Axes of shape (rows of panels x kinds of score, columns)
    legend_, figure_
    """

    def __init__(self, *, summary, tangents=None, floors=None, x="beta", group=None, panel=None, loss=None):
        self.summary = summary
        self.tangents = tangents
        self.floors = floors
        self.x = x
        self.group = group
        self.panel = panel
        self.loss = loss

    @classmethod
    def from_curve(cls, curve, *, ax=None, accuracy=None, **plot_kw):
        """Draw one `LearningCurve`; the accuracies come below the losses unless `ax` is given.

        Parameters
        ----------
        curve : LearningCurve
            Or any object with its arrays: beta, loss_triggered, loss_clean, bk, accuracy_clean, slope, and learner.
        ax : Axes or sequence of Axes, optional
            One for the losses; two with ``accuracy=True``.
        accuracy : bool, optional
            Whether to draw the accuracies; by default if `ax` is not given.
        **plot_kw
            Passed to `plot`.

        Returns
        -------
        CurveDisplay
        """
        learner = getattr(curve, "learner", None)
        display = cls._of_frame(curve_frame(curve), loss=None if learner is None else learner_loss(learner))
        floors = {"panel": [""], "group": [""], "y": [getattr(curve, "bk_floor", None)]}
        display.floors = pd.DataFrame(floors).dropna()
        return display.plot(ax=ax, accuracy=(ax is None) if accuracy is None else accuracy, **plot_kw)

    @classmethod
    def from_curves(cls, curves, *, ax=None, accuracy=None, **plot_kw):
        """Draw the curves of one learner and problem at several lambda, a panel each.

        Parameters
        ----------
        curves : LearningCurves
        ax, accuracy, **plot_kw
            As for `from_curve`; `ax` holds one Axes a panel, all losses first.

        Returns
        -------
        CurveDisplay
        """
        display = cls._of_frame(curves.to_frame(), panel="reg", loss=learner_loss(curves[0].learner))
        display.floors = pd.DataFrame({"panel": curves.reg, "group": "", "y": [c.bk_floor for c in curves]}).dropna()
        return display.plot(ax=ax, accuracy=(ax is None) if accuracy is None else accuracy, **plot_kw)

    @classmethod
    def from_frame(
        cls, frame, *, x="beta", group: str | None = "auto", panel: str | None = "auto", loss=None, ax=None, **plot_kw
    ):
        """Draw the curves in a tidy table, one row a cell and beta.

        Parameters
        ----------
        frame : DataFrame
            Columns `x`, loss_triggered, loss_clean; bk and accuracy_clean for the accuracies; slope for the tangents;
            status, if some cells failed. Rows equal in all but repeat and seed are repeats of one curve.
        x : str, default="beta"
        group : str or None, default="auto"
            The column told apart by colour; by default fraction or learner, whichever has several values.
        panel : str or None, default="auto"
            The column told apart by panel; by default reg, if it has several values.
        loss : str, optional
            ``"logistic"``, ``"softmax"``, ``"hinge"``, ``"squared"``; read from the column learner by default.
        ax : Axes or sequence of Axes, optional
        **plot_kw
            Passed to `plot`.

        Returns
        -------
        CurveDisplay

        Raises
        ------
        InvalidInput
            If a column is missing, or if different experiments would be averaged as if they were repeats.
        """
        named = [c for c in (group, panel) if c != "auto"]
        need_columns(frame, [x, *LOSSES, *named])
        if panel == "auto":
            panel = "reg" if group != "reg" and several(frame, "reg") else None
        if group == "auto":
            group = next((c for c in ("fraction", "learner") if c != panel and several(frame, c)), None)
        refuse_pooling(frame, [x, group, panel])
        return cls._of_frame(frame, x=x, group=group, panel=panel, loss=loss).plot(ax=ax, **plot_kw)

    @classmethod
    def _of_frame(cls, frame, *, x="beta", group=None, panel=None, loss=None):
        tables = curve_tables(frame, x, group, panel)
        return cls(**{**tables, "loss": loss or tables["loss"]}, x=x, group=group, panel=panel)

    def plot(
        self, ax=None, *, accuracy=False, xscale="linear", tangent=True, legend=True, width=None, ncols=None
    ) -> "CurveDisplay":
        """Draw.

        Parameters
        ----------
        ax : Axes or sequence of Axes, optional
            One a panel: all loss panels first, then all accuracy panels. A new figure by default.
        accuracy : bool, default=False
            Whether to draw backdoor and clean accuracy below the losses.
        xscale : {"linear", "symlog"}, default="linear"
            symlog spreads small beta; it is linear between 0 and the smallest positive value, so that 0 is shown.
        tangent : bool, default=True
            Whether to draw the tangents.
        legend : bool, default=True
            Whether to draw a legend, above the panels.
        width : float, optional
            Width of a new figure in inches; by default one column for one or two panels, else the page.
        ncols : int, optional
            Panels in a row of a new figure.

        Returns
        -------
        CurveDisplay
            Itself.
        """
        if xscale not in ("linear", "symlog"):
            raise InvalidInput(f"`xscale={xscale!r}` is not 'linear' or 'symlog' (beta reaches 0, which log has not).")
        if accuracy and not set(ACCURACIES) <= set(self.summary["quantity"]):
            raise InvalidInput("`accuracy=True` needs the columns bk and accuracy_clean in the table.")
        panels = sort_groups(self.summary["panel"].unique())
        kinds = [LOSSES, ACCURACIES] if accuracy else [LOSSES]
        groups = sort_groups(self.summary["group"].unique())
        styles = group_styles(groups)
        self.lines_, self.bands_, self.tangents_, self.floors_, self.failures_ = {}, {}, {}, {}, []
        with local(ax):
            flat, place = self._axes(ax, len(panels), len(kinds), width, ncols)
            for k, quantities in enumerate(kinds):
                for p, panel in enumerate(panels):
                    axes = flat[k * len(panels) + p]
                    if xscale == "symlog":
                        set_symlog(axes, "x", self.summary["x"])
                    for g, group in enumerate(groups):
                        for quantity in quantities:
                            self._draw(axes, panel, group, quantity, styles[group], g)
                        if quantities is LOSSES and tangent:
                            self._draw_tangent(axes, panel, group, styles[group], xscale)
                        if quantities is ACCURACIES:
                            self._draw_floor(axes, panel, group, styles[group])
                    left, bottom, top = place(k, p)
                    if bottom and (ax is not None or self._columns == 1):
                        axes.set_xlabel(axis_label(self.x))
                    if left:
                        axes.set_ylabel(axis_label("loss" if quantities is LOSSES else "accuracy", self.loss))
                    if top and self.panel is not None:
                        axes.set_title(name_value(self.panel, panel), loc="left")
                    if quantities is ACCURACIES:
                        axes.set_ylim(-0.03, 1.03)
            if ax is None and self._columns > 1:
                self.figure_.supxlabel(axis_label(self.x), fontsize=8)
            handles = self._handles(groups, styles) if legend else []
            self.legend_ = outside_legend(self.figure_ if ax is None else None, flat[0], handles)
        return self

    def _axes(self, ax, n_panels, n_kinds, width, ncols):
        """Return the axes, loss panels first, and where each stands: (left, bottom, top of its column)."""
        if ax is not None:
            flat = take_axes(ax, n_panels * n_kinds, "this curve display")
            self.figure_, self.ax_, self._columns = flat[0].figure, ax, 1
            return flat, lambda k, p: (True, True, k == 0)
        self.figure_, self.ax_, flat, ncols = panel_figure(
            n_panels, n_kinds=n_kinds, width=width, ncols=ncols, aspects=(0.62, 0.95), sharex=True
        )
        self._columns = ncols

        def place(k, p):
            bottom = k == n_kinds - 1 and p + ncols >= n_panels
            if bottom:
                flat[k * n_panels + p].tick_params(labelbottom=True)
            return p % ncols == 0, bottom, k == 0

        return flat, place

    def _draw(self, axes, panel, group, quantity, style: GroupStyle, shift):
        table = self.summary
        rows = table[(table["panel"] == panel) & (table["group"] == group) & (table["quantity"] == quantity)]
        if rows.empty:
            return
        # Markers at even distances on the page, staggered, so that groups on top of each other stay visible.
        look = style.line(linestyle=_DRAWN_AS[quantity], markevery=(0.03 * shift, 0.15))
        if _DRAWN_AS[quantity] == ":":
            look |= {"linewidth": 1.1, "markerfacecolor": "white", "markersize": 2.8, "markevery": (0.03 * shift, 0.3)}
        (self.lines_[panel, group, quantity],) = axes.plot(rows["x"], rows["mid"], **look)
        if (rows["high"] > rows["low"]).any():
            self.bands_[panel, group, quantity] = axes.fill_between(
                rows["x"], rows["low"], rows["high"], color=style.color, alpha=0.18, linewidth=0
            )
        lost = rows[rows["n"] == 0]
        if len(lost) and _DRAWN_AS[quantity] == "-":
            foot = axes.get_xaxis_transform()
            look = {"marker": "x", "color": style.color, "linestyle": "", "clip_on": False}
            heights = np.full(len(lost), 0.03 + 0.05 * shift)
            self.failures_ += axes.plot(lost["x"], heights, transform=foot, **look)

    def _draw_tangent(self, axes, panel, group, style, xscale):
        if self.tangents is None:
            return
        rows = self.tangents[(self.tangents["panel"] == panel) & (self.tangents["group"] == group)]
        line = self.lines_.get((panel, group, "loss_triggered"))
        if rows.empty or line is None:
            return
        points = tangent_points(rows.iloc[0], line.get_xdata(), line.get_ydata(), 101 if xscale == "symlog" else 2)
        if points is not None:
            (self.tangents_[panel, group],) = axes.plot(*points, color=self._color(style), **_TANGENT)

    def _draw_floor(self, axes, panel, group, style):
        if self.floors is None:
            return
        rows = self.floors[(self.floors["panel"] == panel) & (self.floors["group"] == group)]
        if len(rows):
            self.floors_[panel, group] = axes.axhline(float(rows.iloc[0]["y"]), color=self._color(style), **_FLOOR)

    def _color(self, style):
        return INK if self.group is None else style.color

    def _handles(self, groups, styles):
        color, handles = styles[groups[0]].color, []
        if self.group is not None:
            color = INK
            handles = [Line2D([], [], **styles[g].line(linestyle="-", label=name_value(self.group, g))) for g in groups]
        for quantity, label in (("loss_triggered", "triggered"), ("loss_clean", "clean")):
            handles.append(Line2D([], [], color=color, linestyle=_DRAWN_AS[quantity], label=label))
        if self.tangents_ and self.tangents is not None:
            at = name_value("beta", float(self.tangents["x"].min()))
            handles.append(Line2D([], [], color=INK, **_TANGENT, label=f"tangent at {at}"))
        if self.floors_:
            handles.append(Line2D([], [], color=INK, **_FLOOR, label="floor (β = 0)"))
        if self.failures_:
            handles.append(Line2D([], [], color=INK, marker="x", linestyle="", label="failed"))
        return handles
