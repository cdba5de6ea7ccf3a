"""A SODA report as a picture: attributions, the index of each class, and what activates the target."""

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from learningcurves.checks import check_integer
from learningcurves.plotting.style import (
    INK,
    PAGE,
    PALETTE,
    SEQUENTIAL,
    Display,
    figure,
    local,
    outside_legend,
    take_axes,
)

TARGET, VICTIM, OTHER = PALETTE["red"], PALETTE["orange"], PALETTE["blue"]
_BAND = (0.05, 0.95)  # of the smallest index under the null


class SodaDisplay(Display):
    """Three panels: attribution of neurons to classes, index per class, activation of the target per source class.

    Parameters
    ----------
    attribution : ndarray of shape (n_neurons, n_classes)
        Averaged over source classes.
    index : ndarray of shape (n_classes,)
        NaN where there is none.
    activation : ndarray of shape (n_classes,)
        Mean activation of the target on the clean samples of each class.
    class_names : sequence of str
    target, victim : int or None
    threshold : float
        Classes with an index below -threshold are flagged.
    null : tuple of float or None
        5 % and 95 % quantile of the smallest index among so many exchangeable classes.
    activation_name : str

    Attributes
    ----------
    image_, colorbar_ : the attribution map
    points_ : dict of {"index", "activation"} -> PathCollection
    threshold_ : Line2D
    band_ : the null band, or None
    ax_ : list of three Axes
    figure_, legend_
    """

    def __init__(
        self, *, attribution, index, activation, class_names, target, victim, threshold, null=None,
        activation_name="logit",
    ):  # fmt: skip
        self.attribution = attribution
        self.index = index
        self.activation = activation
        self.class_names = class_names
        self.target = target
        self.victim = victim
        self.threshold = threshold
        self.null = null
        self.activation_name = activation_name

    @classmethod
    def from_report(cls, report, *, ax=None, **plot_kw):
        """Draw a `SodaReport`.

        Parameters
        ----------
        report : SodaReport
        ax : sequence of three Axes, optional
        **plot_kw
            Passed to `plot`.

        Returns
        -------
        SodaDisplay
        """
        from learningcurves.defences.soda_index import null_indices  # the null is a function of the number of classes

        K, known = report.n_classes, report.target is not None
        null = tuple(-np.quantile(null_indices(K), _BAND[::-1])) if K >= 3 else None
        return cls(
            attribution=report.attribution_of(),
            index=report.index,
            activation=report.activation[:, report.target] if known else np.full(K, np.nan),
            class_names=report.class_names,
            target=report.target,
            victim=report.victim,
            threshold=report.threshold,
            null=null,
            activation_name=report.settings.get("activation", "logit"),
        ).plot(ax=ax, **plot_kw)

    def plot(self, ax=None, *, n_neurons: int = 40, legend=True, width=PAGE) -> "SodaDisplay":
        """Draw.

        Parameters
        ----------
        ax : sequence of three Axes, optional
        n_neurons : int, default=40
            Neurons shown: those with the largest attribution to the target, largest first.
        legend : bool, default=True
        width : float, default=7
            Width of a new figure in inches.

        Returns
        -------
        SodaDisplay
            Itself.
        """
        check_integer(n_neurons, "n_neurons", low=1)
        with local(ax):
            if ax is None:
                self.figure_, grid = figure(3, 1, width, aspect=0.95)
                self.ax_ = list(grid[0])
            else:
                self.ax_ = take_axes(ax, 3, "a SODA display")
                self.figure_ = self.ax_[0].figure
            self.points_ = {}
            self._draw_map(self.ax_[0], n_neurons)
            self._draw_index(self.ax_[1])
            self._draw_activation(self.ax_[2])
            self.legend_ = outside_legend(
                self.figure_ if ax is None else None, self.ax_[0], self._handles() if legend else []
            )
        return self

    def _draw_map(self, axes, n_neurons):
        by = self.attribution.sum(axis=1) if self.target is None else self.attribution[:, self.target]
        order = np.argsort(-by, kind="stable")[:n_neurons]
        self.neurons_ = order
        self.image_ = axes.imshow(self.attribution[order].T, aspect="auto", cmap=SEQUENTIAL, interpolation="nearest")
        self.colorbar_ = axes.figure.colorbar(self.image_, ax=axes, location="top", shrink=0.9, aspect=25, pad=0.02)
        self.colorbar_.set_label(f"causal attribution ({self.activation_name})", fontsize=7.5)
        of = "" if len(order) == len(self.attribution) else f" (top {len(order)} of {len(self.attribution)})"
        axes.set(xlabel=f"neuron, by rank{of}", ylabel="output class")
        self._name_classes(axes.yaxis)

    def _draw_index(self, axes):
        place = np.arange(len(self.index))
        self.band_ = None
        if self.null is not None:
            self.band_ = axes.axhspan(*self.null, color=PALETTE["grey"], alpha=0.25, linewidth=0)
        self.threshold_ = axes.axhline(-self.threshold, color=INK, linestyle="--", linewidth=0.9)
        self.points_["index"] = self._points(axes, place, self.index)
        axes.axhline(0, color=INK, linewidth=0.4)
        axes.set(xlabel="class", ylabel="anomaly index")
        self._name_classes(axes.xaxis)

    def _draw_activation(self, axes):
        place = np.arange(len(self.activation))
        self.points_["activation"] = self._points(axes, place, self.activation)
        target = "" if self.target is None else f" {self.class_names[self.target]}"
        what = "logit" if self.activation_name == "logit" else "probability"
        axes.set(xlabel="class of the clean samples", ylabel=f"mean {what} of class{target}")
        self._name_classes(axes.xaxis)

    def _points(self, axes, place, values):
        color = [TARGET if c == self.target else VICTIM if c == self.victim else OTHER for c in place]
        axes.vlines(place, 0, values, color=color, linewidth=0.8, alpha=0.6)
        named = {self.target: "v", self.victim: "D"}  # not by colour alone
        sizes = [0 if c in named else 14 for c in place]
        points = axes.scatter(place, values, c=color, s=sizes, zorder=3)
        for c, marker in named.items():
            if c is not None:
                axes.plot([c], [values[c]], marker, color=color[c], markersize=6, zorder=4)
        return points

    def _name_classes(self, axis):
        K = len(self.class_names)
        step = -(-K // 12)  # more names than that run into one another
        axis.set_ticks(range(0, K, step), [str(name)[:12] for name in self.class_names[::step]])
        if axis.axis_name == "x" and max(len(str(name)) for name in self.class_names) > 2:
            axis.set_tick_params(rotation=90)

    def _handles(self):
        handles = []
        if self.target is not None:
            label = f"smallest index: {self.class_names[self.target]}"
            handles.append(Line2D([], [], color=TARGET, marker="v", linestyle="", label=label))
        if self.victim is not None:
            label = f"activates it most: {self.class_names[self.victim]}"
            handles.append(Line2D([], [], color=VICTIM, marker="D", linestyle="", label=label))
        handles.append(Line2D([], [], color=INK, linestyle="--", label=f"threshold −{self.threshold:.2f}"))
        if self.band_ is not None:
            label = f"smallest of {len(self.index)} alike, 5–95 %"
            handles.append(Patch(facecolor=PALETTE["grey"], alpha=0.25, label=label))
        return handles
