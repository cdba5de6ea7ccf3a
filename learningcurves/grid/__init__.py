"""Grids: a file of axes becomes cells, cells become rows, and rows one table; in parallel, and safe to interrupt."""

from learningcurves.grid.run import run_grid
from learningcurves.grid.spec import GridSpec, load_spec
from learningcurves.grid.table import collect, summarise
from learningcurves.grid.version import MATHS_VERSION

__all__ = ["MATHS_VERSION", "GridSpec", "collect", "load_spec", "run_grid", "summarise"]
