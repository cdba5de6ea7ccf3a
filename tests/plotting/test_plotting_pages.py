"""Every display as a file: three formats, the same bytes twice, nothing outside the page, no title."""

from types import SimpleNamespace

import numpy as np
import pytest

from learningcurves.errors import InvalidInput
from learningcurves.plotting import (
    CurveDisplay,
    DeviationDisplay,
    GradientDisplay,
    ImageGrid,
    InfluenceDisplay,
    MapDisplay,
    SlopeDisplay,
    SlopeScatterDisplay,
)


def _deviation():
    beta = np.linspace(0, 1, 11)
    return SimpleNamespace(beta=beta, nu=0.3 * beta**0.5, rho=50 + 100 * beta, rho_relative=1 + 2 * beta)


_IMAGES = np.random.default_rng(0).random((12, 8, 8))

DISPLAYS = {
    "curve": lambda get: CurveDisplay.from_curve(get("curve")),
    "curve_symlog": lambda get: CurveDisplay.from_curve(get("curve"), xscale="symlog"),
    "curves": lambda get: CurveDisplay.from_frame(get("curves_frame"), accuracy=True),
    "slope": lambda get: SlopeDisplay.from_frame(get("slopes_frame")),
    "scatter": lambda get: SlopeScatterDisplay.from_frame(get("slopes_frame")),
    "deviation": lambda get: DeviationDisplay.from_deviation(_deviation()),
    "influence": lambda get: InfluenceDisplay.from_influence(
        np.linspace(-1, 1, 12), _IMAGES, _IMAGES[0], backdoor=np.arange(12) < 3
    ),
    "images": lambda get: ImageGrid.from_images(_IMAGES, row_labels=["clean", "triggered"]),
    "gradient": lambda get: GradientDisplay.from_gradients(
        {"clean": _IMAGES[0].ravel(), "poisoned": -_IMAGES[1].ravel()}, images=_IMAGES[0].reshape(1, -1)
    ),
    "map": lambda get: MapDisplay.from_frame(get("map_frame"), safe="safe"),
}


@pytest.mark.parametrize("name", DISPLAYS)
def test_page(name, request, tmp_path):
    display = DISPLAYS[name](request.getfixturevalue)
    formats = ["png", "pdf", "svg"]
    first = [p.read_bytes() for p in display.save(tmp_path / name, formats=formats, dpi=100)]
    again = [p.read_bytes() for p in display.save(tmp_path / name, formats=formats, dpi=100)]
    assert first == again
    anew = DISPLAYS[name](request.getfixturevalue)
    assert [p.read_bytes() for p in anew.save(tmp_path / "anew", formats=["png"], dpi=100)] == first[:1]
    assert display._repr_png_()[:4] == b"\x89PNG"

    figure = display.figure_
    figure.draw_without_rendering()
    page, box = figure.bbox, figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    slack = 0.02 * figure.dpi
    assert box.x0 >= page.x0 - slack and box.x1 <= page.x1 + slack
    assert box.y0 >= page.y0 - slack and box.y1 <= page.y1 + slack
    assert figure.get_suptitle() == ""
    if name != "gradient":  # there the names of the models stand above the columns
        assert not any(axes.get_title() for axes in figure.axes)


def test_a_display_that_is_not_drawn_says_so(tmp_path):
    display = SlopeDisplay(summary=None)
    with pytest.raises(InvalidInput, match="Call `.plot"):
        display.save(tmp_path / "x.png")
    assert display._repr_png_() is None
