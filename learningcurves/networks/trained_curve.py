"""What training a network at every beta has given: scores by beta, seed and epoch, with intervals over seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from learningcurves.checks import check_choice, check_number
from learningcurves.errors import InvalidInput, Status

SCORES = ("loss_triggered", "loss_clean", "bk", "accuracy_clean")


@dataclass(frozen=True, eq=False)
class TrainedCurve:
    """Losses and accuracies of a network trained at each beta, for each seed and recorded epoch.

    Attributes
    ----------
    beta : ndarray of shape (B,)
    seeds : tuple of int, S of them
        Each gives initial weights, batch order, dropout and augmentation, the same for every beta.
    epochs : tuple of int, E of them
        The recorded epochs.
    scores : mapping of str to ndarray of shape (B, S, E)
        `loss_triggered`, `loss_clean` (means over test samples), `bk`, `accuracy_clean`, `asr` where true labels are
        known, the losses during training, and what `measure` returned. NaN where a training failed.
    status : tuple of tuples of Status
        By beta, then seed.
    settings : mapping
        Of the training, without beta and seed.
    """

    beta: np.ndarray
    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    scores: Mapping[str, np.ndarray]
    status: tuple[tuple[Status, ...], ...]
    settings: Mapping

    def __getattr__(self, name):
        # reached only for names that are no fields: scores read like the arrays of a LearningCurve
        scores = self.__dict__.get("scores", {})
        if name in scores:
            return scores[name]
        raise AttributeError(f"TrainedCurve has no {name!r}; its scores are {', '.join(scores)}.")

    @property
    def bk_floor(self) -> np.ndarray | None:
        """Backdoor accuracy at beta = 0 for each seed at the last epoch, or None if 0 is not in `beta`."""
        return self.scores["bk"][0, :, -1] if "bk" in self.scores and self.beta[0] == 0 else None

    def to_frame(self) -> pd.DataFrame:
        """Return one row a beta, seed and epoch: the scores and the status ("ok" or its name in lower case)."""
        shape = (len(self.beta), len(self.seeds), len(self.epochs))
        b, s, e = (axis.ravel() for axis in np.indices(shape))
        columns: dict[str, Any] = {
            "beta": self.beta[b],
            "seed": np.array(self.seeds)[s],
            "epoch": np.array(self.epochs)[e],
        }
        columns |= {name: values.ravel() for name, values in self.scores.items()}
        columns["status"] = [self.status[i][j].name.lower() for i, j in zip(b, s, strict=True)]
        return pd.DataFrame(columns)

    def interval(
        self, score: str, *, epoch: int | None = None, level: float = 0.95, method: str = "t", change: bool = False
    ) -> pd.DataFrame:
        """Return the mean of a score over seeds and an interval for it, at each beta.

        Parameters
        ----------
        score : str
            Name of a score.
        epoch : int, optional
            A recorded epoch; the last by default.
        level : float, default=0.95
        method : {"t", "bootstrap"}
            "t": Student's interval of the mean, from the standard deviation over seeds. "bootstrap": percentiles of the
            means of 2,000 resamples of the seeds, too narrow for fewer than about ten seeds.
        change : bool, default=False
            Difference to the smallest beta within each seed. As all betas of a seed share initial weights and batches,
            its interval is usually the narrower one.

        Returns
        -------
        DataFrame
            Columns beta, low, mid (mean), high, n (seeds that finished), n_failed. With one seed low and high are NaN.
            Accuracies are cut to [0, 1].
        """
        check_choice(score, "score", self.scores)
        check_choice(method, "method", ("t", "bootstrap"))
        check_number(level, "level", low=0, high=1, open_low=True)
        epoch = self.epochs[-1] if epoch is None else epoch
        if epoch not in self.epochs:
            raise InvalidInput(f"`epoch={epoch}` was not recorded (recorded: {', '.join(map(str, self.epochs))}).")
        values = self.scores[score][:, :, self.epochs.index(epoch)]
        values = values - values[0] if change else values
        bounded = score in ("bk", "accuracy_clean", "asr") and not change
        rows = [_interval(row[np.isfinite(row)], level, method, bounded) for row in values]
        frame = pd.DataFrame(
            [(b, *row) for b, row in zip(self.beta, rows, strict=True)], columns=["beta", "low", "mid", "high", "n"]
        )
        return frame.assign(n_failed=len(self.seeds) - frame["n"])

    def plot(self, ax=None, *, epoch: int | None = None, level: float = 0.95, accuracy: bool | None = None, **plot_kw):
        """Draw mean and t-interval over seeds: triggered solid, clean dotted; accuracies below unless `ax` is given.

        Returns
        -------
        CurveDisplay
            Its `figure_` saves itself; see `learningcurves.plotting.CurveDisplay.plot` for `plot_kw`.
        """
        from learningcurves.plotting.curve import CurveDisplay

        tables = []
        for score in SCORES:
            if score in self.scores:
                table = self.interval(score, epoch=epoch, level=level).rename(columns={"beta": "x"})
                # one seed has no interval: the band has no width then
                table = table.assign(low=table["low"].fillna(table["mid"]), high=table["high"].fillna(table["mid"]))
                tables.append(table.assign(panel="", group="", quantity=score))
        if not tables:
            raise InvalidInput("nothing was scored: give `problem` a test or triggered part, and `record` epochs.")
        units = {"CrossEntropy": "softmax", "BCE": "logistic", "MSE": "squared"}
        loss = units.get(self.settings.get("loss", "").split("(")[0])
        floors = None
        if self.bk_floor is not None and np.isfinite(self.bk_floor).any():
            floors = pd.DataFrame({"panel": [""], "group": [""], "y": [float(np.nanmean(self.bk_floor))]})
        display = CurveDisplay(summary=pd.concat(tables, ignore_index=True), floors=floors, loss=loss)
        return display.plot(ax=ax, accuracy=(ax is None) if accuracy is None else accuracy, **plot_kw)

    def __repr__(self):
        failed = sum(not status.ok for row in self.status for status in row)
        text = f"TrainedCurve: {len(self.beta)} values of beta in [{self.beta[0]:g}, {self.beta[-1]:g}], "
        text += f"{len(self.seeds)} seeds, recorded at epochs {', '.join(map(str, self.epochs))}"
        for score in SCORES:
            if score in self.scores:
                mid = self.interval(score)["mid"]
                text += f"\n  {score} {mid.iloc[0]:.4g} -> {mid.iloc[-1]:.4g}"
        return text + (f"\n  {failed} trainings FAILED" if failed else "")


def _interval(values, level, method, bounded):
    n = len(values)
    if n == 0:
        return np.nan, np.nan, np.nan, 0
    mean = float(values.mean())
    if n == 1:
        return np.nan, mean, np.nan, 1
    if method == "t":
        half = float(stats.t.ppf(0.5 + level / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
        low, high = mean - half, mean + half
    else:
        draws = np.random.default_rng(0).integers(n, size=(2000, n))  # a fixed stream: the same interval each time
        low, high = np.quantile(values[draws].mean(axis=1), [0.5 - level / 2, 0.5 + level / 2])
    if bounded:
        low, high = max(low, 0.0), min(high, 1.0)
    return float(low), mean, float(high), n
