"""Parameter deviation: the norm of the parameters over their angle to the clean ones, along the backdoor weight."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from learningcurves.errors import InvalidInput
from learningcurves.plotting.labels import axis_label, format_value, name_value
from learningcurves.plotting.panels import panel_figure
from learningcurves.plotting.scales import set_log
from learningcurves.plotting.style import (
    INK,
    Display,
    group_styles,
    local,
    outside_legend,
    sort_groups,
    take_axes,
)
from learningcurves.plotting.tables import is_ok, need_columns, refuse_pooling, several

_WANTED = (0.0, 1.0, 0.1, 0.5, 0.01, 0.25, 0.05)  # the betas worth a label, most wanted first


class DeviationDisplay(Display):
    """Paths of (nu, rho) in the order of beta, with a tick at every beta and labels at a few.

    A path may turn back in nu; sorted by nu it would show a curve that no training went along. With repeats, each
    repeat is a thin path and the group's path runs through the medians at equal beta.

    Parameters
    ----------
    paths : DataFrame
        Columns panel, group, repeat, beta, nu, rho, ok; one row a beta.
    x, y : str
        ``"nu"`` and ``"rho"`` or ``"rho_relative"``.
    group, panel : str, optional

    Attributes
    ----------
    lines_ : dict of (panel, group) -> Line2D
        In the order of beta; not finished betas are gaps.
    repeats_ : dict of (panel, group) -> list of Line2D
    failures_ : list of Line2D
        Crosses half way between the neighbours of a beta that failed.
    rings_ : list of Line2D
        Larger markers with a dark edge, at the betas that are written out.
    labels_ : list of Annotation
    ax_, figure_, legend_
    """

    def __init__(self, *, paths, x="nu", y="rho", group=None, panel=None):
        self.paths = paths
        self.x = x
        self.y = y
        self.group = group
        self.panel = panel

    @classmethod
    def from_deviation(cls, deviation, *, relative=False, ax=None, **plot_kw):
        """Draw one `Deviation`.

        Parameters
        ----------
        deviation : Deviation
            Or any object with arrays beta, nu, rho and rho_relative.
        relative : bool, default=False
            Whether to draw rho(beta)/rho(0) in place of rho.
        ax : Axes, optional
        **plot_kw
            Passed to `plot`.

        Returns
        -------
        DeviationDisplay
        """
        y = "rho_relative" if relative else "rho"
        frame = pd.DataFrame({c: np.asarray(getattr(deviation, c), dtype=float) for c in ("beta", "nu", y)})
        return cls.from_frame(frame, y=y, ax=ax, **plot_kw)

    @classmethod
    def from_frame(
        cls, frame, *, x="nu", y="rho", group: str | None = "auto", panel: str | None = "auto", ax=None, **plot_kw
    ):
        """Draw the paths in a tidy table, one row a cell and beta.

        Parameters
        ----------
        frame : DataFrame
            Columns beta, `x`, `y`; repeat or seed if there are repeats; status if some rows failed.
        x, y : str
            What the axes show: ``"nu"``, and ``"rho"`` or ``"rho_relative"``.
        group : str or None, default="auto"
            Told apart by colour, marker and line style; by default learner, fraction, reg or gamma, the first that has
            several values.
        panel : str or None, default="auto"
            Told apart by panel; by default the next of them that has several values.
        ax : Axes or sequence of Axes, optional
            One a panel.
        **plot_kw
            Passed to `plot`.

        Returns
        -------
        DeviationDisplay
        """
        named = [c for c in (group, panel) if c != "auto"]
        need_columns(frame, ["beta", x, y, *named])
        candidates = [c for c in ("learner", "fraction", "reg", "gamma") if c not in named and several(frame, c)]
        if group == "auto":
            group = candidates.pop(0) if candidates else None
        if panel == "auto":
            panel = candidates.pop(0) if candidates else None
        refuse_pooling(frame, ["beta", group, panel])
        values = frame[["beta", x, y]].apply(pd.to_numeric, errors="coerce").set_axis(["beta", "nu", "rho"], axis=1)
        paths = values.assign(
            panel=frame[panel] if panel is not None else "",
            group=frame[group] if group is not None else "",
            repeat=_repeat_of(frame),
            ok=is_ok(frame) & np.isfinite(values[["nu", "rho"]].to_numpy()).all(axis=1),
        )
        paths = paths.sort_values(["repeat", "beta"], kind="stable", ignore_index=True)
        twice = paths.duplicated(["panel", "group", "repeat", "beta"])
        if twice.any():
            beta = paths.loc[twice.idxmax(), "beta"]
            raise InvalidInput(
                f"`frame` holds beta={beta:g} twice on one path. Add a column repeat, or filter the table to one "
                "experiment a group and panel."
            )
        return cls(paths=paths, x=x, y=y, group=group, panel=panel).plot(ax=ax, **plot_kw)

    def plot(
        self, ax=None, *, yscale="linear", annotate=True, legend=True, width=None, ncols=None
    ) -> "DeviationDisplay":
        """Draw.

        Parameters
        ----------
        ax : Axes or sequence of Axes, optional
            One a panel.
        yscale : {"linear", "log"}, default="linear"
            log where norms of several learners differ by orders of magnitude.
        annotate : bool or sequence of float, default=True
            Whether to ring a few betas, or which; written beside the path where a panel has one, else in the legend.
        legend : bool, default=True
        width : float, optional
            Width of a new figure in inches.
        ncols : int, optional
            Panels in a row of a new figure.

        Returns
        -------
        DeviationDisplay
            Itself.
        """
        if yscale not in ("linear", "log"):
            raise InvalidInput(f"`yscale={yscale!r}` is not 'linear' or 'log'.")
        panels = sort_groups(self.paths["panel"].unique())
        groups = sort_groups(self.paths["group"].unique())
        styles = group_styles(groups)
        self.lines_, self.repeats_, self.failures_ = {}, {}, []
        self.rings_, self.labels_ = [], []
        with local(ax):
            if ax is None:
                self.figure_, self.ax_, flat, ncols = panel_figure(len(panels), width=width, ncols=ncols)
            else:
                flat = take_axes(ax, len(panels), "this deviation display")
                self.figure_, self.ax_, ncols = flat[0].figure, ax, 1
            middles: list = []
            for p, (axes, panel) in enumerate(zip(flat, panels, strict=False)):
                if yscale == "log":
                    set_log(axes, "y", self.paths["rho"])
                middles += [(axes, g, self._draw(axes, panel, g, styles[g])) for g in groups]
                axes.xaxis.set_major_locator(MaxNLocator(4 if ncols > 1 else 6))
                if ax is not None or ncols == 1:
                    axes.set_xlabel(axis_label(self.x))
                if p % ncols == 0:
                    axes.set_ylabel(axis_label(self.y))
                if self.panel is not None:
                    axes.set_title(name_value(self.panel, panel), loc="left")
            if ax is None and ncols > 1:
                self.figure_.supxlabel(axis_label(self.x), fontsize=8)
            ringed = ""
            if annotate is not False:
                ringed = self._annotate(flat[: len(panels)], middles, styles, None if annotate is True else annotate)
            handles = []
            if self.group is not None:
                handles = [Line2D([], [], **styles[g].line(label=name_value(self.group, g))) for g in groups]
            if ringed:
                ring: dict[str, Any] = {
                    "marker": "o",
                    "linestyle": "",
                    "markerfacecolor": "white",
                    "markeredgecolor": INK,
                }
                handles.append(Line2D([], [], markersize=5, markeredgewidth=0.8, label=ringed, **ring))
            if self.failures_:
                handles.append(Line2D([], [], color=INK, marker="x", linestyle="", label="failed"))
            host = self.figure_ if ax is None else None
            self.legend_ = outside_legend(host, flat[0], handles if legend else [])
        return self

    def _draw(self, axes, panel, group, style) -> pd.DataFrame:
        """Draw one group and return its path through the medians: index beta, columns nu, rho, in order of beta."""
        table = self.paths
        rows = table[(table["panel"] == panel) & (table["group"] == group)]
        good = rows.assign(nu=rows["nu"].where(rows["ok"]), rho=rows["rho"].where(rows["ok"]))
        middle = good.groupby("beta", sort=True)[["nu", "rho"]].median()
        if rows["repeat"].nunique() > 1:
            self.repeats_[panel, group] = [
                axes.plot(one["nu"], one["rho"], color=style.color, linewidth=0.5, alpha=0.45)[0]
                for _, one in good.groupby("repeat", sort=True)
            ]
        (self.lines_[panel, group],) = axes.plot(middle["nu"], middle["rho"], **style.line(markersize=2.6))
        lost = middle["nu"].isna().to_numpy()
        if lost.any() and not lost.all():
            # A failed beta has no point; between its neighbours the cross is at least where the gap is.
            where = middle.interpolate(method="index", limit_direction="both").to_numpy()[lost]
            self.failures_ += axes.plot(
                where[:, 0], where[:, 1], marker="x", color=style.color, linestyle="", markersize=5, markeredgewidth=1.2
            )
        return middle

    def _annotate(self, flat, middles, styles, betas) -> str:
        """Ring a few betas, the same on every path; return them as text, or write them beside a path that is alone."""
        paths = [(axes, g, path.dropna()) for axes, g, path in middles]
        paths = [one for one in paths if len(one[2])]
        if not paths:
            return ""
        spots = []
        for axes in flat:
            axes.autoscale_view()
        for axes, _, path in paths:
            spots.append((axes.transData + axes.transAxes.inverted()).transform(path[["nu", "rho"]].to_numpy()))
        longest = int(np.argmax([np.abs(np.diff(s, axis=0)).sum() for s in spots]))
        chosen = _choose(paths[longest][2].index.to_numpy(), spots[longest], betas)
        alone = len({g for _, g, _ in paths}) == 1
        for (axes, group, path), spot in zip(paths, spots, strict=True):
            style, at = styles[group], path.loc[path.index.isin(chosen)]
            look = style.line(linestyle="", markeredgecolor=INK, markeredgewidth=0.8, markersize=5, zorder=3)
            self.rings_ += axes.plot(at["nu"], at["rho"], **look)
            if alone:
                for beta in at.index:
                    self.labels_.append(_beside(axes, path, spot, path.index.get_loc(beta)))
        return "" if alone else "β = " + ", ".join(format_value(beta) for beta in chosen)


def _choose(betas: np.ndarray, spots: np.ndarray, wanted) -> list[float]:
    """Return the betas to label: those asked for, or the most telling that keep apart on the page."""
    chosen: list[int] = []
    for want in _WANTED if wanted is None else wanted:
        i = int(np.argmin(np.abs(betas - want)))
        if abs(betas[i] - want) > 0.02 + 0.1 * want or i in chosen:
            continue
        if wanted is None and any((np.abs(spots[i] - spots[c]) < (0.22, 0.1)).all() for c in chosen):
            continue
        chosen.append(i)
    return [float(betas[i]) for i in sorted(chosen)]


def _beside(axes, path, spots, i):
    """Write the beta of point `i` to the side of the path that the path does not bend to, or above its last point."""
    ahead = spots[min(i + 1, len(spots) - 1)] - spots[max(i - 1, 0)]
    length = float(np.hypot(*ahead)) or 1.0
    side = np.array([-ahead[1], ahead[0]]) / length  # the left of the direction of travel
    if i == len(spots) - 1 or spots[i][0] + 0.25 * side[0] > 0.85:
        side = np.array([-1.0, 0.3]) if spots[i][0] > 0.5 else side
    if i == 0:
        rising = ahead[1] > 0.3 * abs(ahead[0])
        side = np.array([1.0, -0.1]) if rising else np.array([0.3, 1.0])
    return axes.annotate(
        f"β = {format_value(float(path.index[i]))}",
        path.iloc[i][["nu", "rho"]].to_numpy(dtype=float),
        xytext=tuple(7 * side),
        textcoords="offset points",
        ha="right" if side[0] < -0.2 else "left" if side[0] > 0.2 else "center",
        va="center" if abs(side[1]) < 0.5 else "bottom" if side[1] > 0 else "top",
        fontsize=6.5,
        color=INK,
        path_effects=[withStroke(linewidth=1.5, foreground="white")],
        zorder=4,
    )


def _repeat_of(frame: pd.DataFrame):
    """Return one label a path among repeats: the columns repeat and seed, as far as there are any."""
    columns = [c for c in ("repeat", "seed") if c in frame.columns]
    if not columns:
        return 0
    return frame.groupby(columns, sort=True, dropna=False).ngroup()
