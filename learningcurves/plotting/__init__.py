"""One Display a figure; each draws from tables and arrays, never from a model."""

from learningcurves.plotting.curve import CurveDisplay
from learningcurves.plotting.deviation import DeviationDisplay
from learningcurves.plotting.gradient import GradientDisplay
from learningcurves.plotting.grid import MapDisplay
from learningcurves.plotting.images import ImageGrid
from learningcurves.plotting.influence import InfluenceDisplay
from learningcurves.plotting.scatter import SlopeScatterDisplay
from learningcurves.plotting.slope import SlopeDisplay
from learningcurves.plotting.style import figure, save
from learningcurves.plotting.tangent import TangentDisplay

__all__ = [
    "CurveDisplay",
    "DeviationDisplay",
    "GradientDisplay",
    "ImageGrid",
    "InfluenceDisplay",
    "MapDisplay",
    "SlopeDisplay",
    "SlopeScatterDisplay",
    "TangentDisplay",
    "figure",
    "save",
]
