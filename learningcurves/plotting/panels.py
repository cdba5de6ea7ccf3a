"""A figure of panels in rows, one or more kinds of score below each other in every panel."""

import numpy as np

from learningcurves.plotting.style import COLUMN, PAGE, figure


def panel_figure(n_panels: int, *, n_kinds=1, width=None, ncols=None, aspects=(0.72, 1.05), **subplots):
    """Return a new figure with room for some panels, without the spare axes of the last row.

    Parameters
    ----------
    n_panels : int
    n_kinds : int, default=1
        Axes of a panel, one below the other.
    width : float, optional
        Inches; by default one column for one or two panels, else the page.
    ncols : int, optional
        Panels in a row; by default two in a column's width, four on a page.
    aspects : (float, float)
        Height over width of one axes where a row has one panel, and where it has more.
    **subplots
        Passed to `style.figure`.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : Axes, or ndarray of Axes
        The grid, or its only axes.
    flat : list of Axes
        All panels of the first kind, then all of the next.
    ncols : int
    """
    width = width or (COLUMN if n_panels <= 2 else PAGE)
    ncols = min(n_panels, ncols or (2 if width < 5 else 4))
    nrows = -(-n_panels // ncols)
    fig, grid = figure(ncols, nrows * n_kinds, width, aspect=aspects[0 if ncols == 1 else 1], **subplots)
    places = np.array(
        [[grid[(p // ncols) * n_kinds + k, p % ncols] for p in range(nrows * ncols)] for k in range(n_kinds)]
    )
    for spare in places[:, n_panels:].ravel():
        spare.remove()
    return fig, grid if grid.size > 1 else grid[0, 0], list(places[:, :n_panels].ravel()), ncols
