"""What a defence costs and brings: accuracy and attack success over a pruning threshold; success over re-learned poisons."""

from typing import Any

import pandas as pd

from learningcurves.errors import InvalidInput
from learningcurves.plotting.style import INK, PALETTE, Display, GroupStyle, figure, local, outside_legend

RATES = {
    "acc": ("clean accuracy", GroupStyle(PALETTE["blue"], "o", "-")),
    "asr": ("attack success (oracle)", GroupStyle(PALETTE["red"], "^", (0, (5, 1.2)))),
    "ra": ("right answer under trigger (oracle)", GroupStyle(PALETTE["purple"], "D", (0, (1.2, 1.2)))),
}


class ThresholdDisplay(Display):
    """Rates over the pruning threshold, or over the number of neurons where the curve has no thresholds.

    Parameters
    ----------
    curve : DataFrame
        threshold (or, where all are NaN, n_pruned), acc, acc_low, acc_high: what a defender sees on clean samples.
    oracle : DataFrame, optional
        threshold, acc, asr, ra with `_low` and `_high`: what only somebody with triggered test data sees.
    chosen : float, optional
        The threshold (or number) that was chosen, marked by a line.

    Attributes
    ----------
    figure_, ax_, lines_
        Set by `plot`.
    """

    def __init__(self, *, curve: pd.DataFrame, oracle: pd.DataFrame | None = None, chosen: float | None = None):
        missing = {"threshold", "acc"} - set(curve.columns)
        if missing:
            raise InvalidInput(f"`curve` lacks the column {missing.pop()!r}.")
        self.curve, self.oracle, self.chosen = curve, oracle, chosen
        self.x = "n_pruned" if "n_pruned" in curve and curve["threshold"].isna().all() else "threshold"

    def plot(self, ax: Any = None):
        """Draw on `ax` or a new figure and return self."""
        with local(ax):
            host = None
            if ax is None:
                host, axes = figure()
                ax = axes[0, 0]
            self.lines_ = [
                self._line(ax, self.curve, "acc", "clean accuracy (held-out samples)", filled=self.oracle is None)
            ]
            if self.oracle is not None:
                for rate, (label, _) in RATES.items():
                    shown = "clean accuracy (test)" if rate == "acc" else label
                    self.lines_.append(self._line(ax, self.oracle, rate, shown))
            if self.chosen is not None:
                self.lines_.append(
                    ax.axvline(self.chosen, color=INK, linewidth=0.8, linestyle=":", label=f"chosen: {self.chosen:g}")
                )
            ax.set(
                xlabel="threshold on the mask" if self.x == "threshold" else "neurons cut (count)",
                ylabel="share of samples",
                ylim=(-0.03, 1.03),
            )
            outside_legend(host, ax, self.lines_)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _line(self, ax, table, rate, label, *, filled=True):
        style = RATES[rate][1]
        colour = style.color if filled else PALETTE["grey"]
        look = style.line(
            label=label, color=colour, linestyle=style.linestyle if filled else (0, (3, 1)), markersize=2.6
        )
        (line,) = ax.plot(table[self.x], table[rate], **look)
        if f"{rate}_low" in table:
            ax.fill_between(
                table[self.x], table[f"{rate}_low"], table[f"{rate}_high"], color=colour, alpha=0.18, linewidth=0
            )
        return line
