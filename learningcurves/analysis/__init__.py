"""What tables of curves and slopes say: summaries over repeats, rank correlations, wrong slopes for comparison."""

from learningcurves.analysis.relate import RankCorrelation, rank_correlation, rank_predictors
from learningcurves.analysis.shortcuts import SHORTCUTS, shortcut_slopes
from learningcurves.analysis.summary import summarise

__all__ = ["SHORTCUTS", "RankCorrelation", "rank_correlation", "rank_predictors", "shortcut_slopes", "summarise"]
