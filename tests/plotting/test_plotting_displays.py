"""Artists hold the data given, in the order of beta; what failed is shown."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from learningcurves.errors import InvalidInput, Status
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
from learningcurves.plotting.grid import outline

BETA = np.array([0.0, 0.01, 0.05, 0.1, 0.24, 0.54, 0.81, 1.0])


# ----- curve


def test_curve_holds_the_arrays(curve):
    display = CurveDisplay.from_curve(curve)
    for name in ("loss_triggered", "loss_clean", "bk", "accuracy_clean"):
        line = display.lines_["", "", name]
        np.testing.assert_array_equal(line.get_xdata(), curve.beta)
        np.testing.assert_array_equal(line.get_ydata(), getattr(curve, name))
    assert display.lines_["", "", "loss_triggered"].get_linestyle() == "-"
    assert display.lines_["", "", "loss_clean"].get_linestyle() == ":"
    assert display.ax_.shape == (2, 1)
    assert display.ax_[0, 0].get_ylabel() == "test loss (nats)"
    assert display.floors_["", ""].get_ydata()[0] == curve.bk_floor
    assert not display.bands_


@pytest.mark.parametrize("xscale", ["linear", "symlog"])
def test_tangent_has_the_slope_and_stays_within_the_curve(curve, xscale):
    display = CurveDisplay.from_curve(curve, xscale=xscale)
    x, y = display.tangents_["", ""].get_data()
    np.testing.assert_allclose((y[1:] - y[0]) / (x[1:] - x[0]), curve.slope[0])
    assert y[0] == curve.loss_triggered[0]
    assert y.min() >= curve.loss_triggered.min() - 1e-12
    assert display.figure_.axes[0].get_xscale() == xscale


def test_curve_on_own_axes(curve):
    axes = Figure().subplots()
    display = CurveDisplay.from_curve(curve, ax=axes)
    assert display.ax_ is axes and display.figure_ is axes.figure
    with pytest.raises(InvalidInput, match="draws 2 panels"):
        CurveDisplay.from_curve(curve, ax=axes, accuracy=True)


def test_curve_of_a_table_has_a_panel_a_reg_and_a_colour_a_fraction(curves_frame):
    shuffled = curves_frame.sample(frac=1.0, random_state=0)
    display = CurveDisplay.from_frame(shuffled, accuracy=True)
    assert len([a for a in display.figure_.axes]) == 6
    assert [a.get_title(loc="left") for a in display.ax_[0]] == ["λ = 0.01", "λ = 1", "λ = 100"]
    line = display.lines_[1.0, 0.1, "loss_triggered"]
    np.testing.assert_array_equal(line.get_xdata(), BETA)
    cell = curves_frame[(curves_frame["reg"] == 1.0) & (curves_frame["fraction"] == 0.1)]
    np.testing.assert_allclose(line.get_ydata(), cell.groupby("beta")["loss_triggered"].median())
    colours = {g: display.lines_[1.0, g, "loss_triggered"].get_color() for g in (0.01, 0.1)}
    assert colours[0.01] != colours[0.1]
    assert display.lines_[100.0, 0.1, "bk"].get_color() == colours[0.1]
    assert (1.0, 0.1, "loss_triggered") in display.bands_


def test_failed_points_of_a_curve_are_gaps_with_a_cross(curves_frame):
    lost = (curves_frame["reg"] == 1.0) & (curves_frame["fraction"] == 0.1) & (curves_frame["beta"] == 0.24)
    curves_frame["status"] = [Status.SINGULAR if bad else Status.OK for bad in lost]
    display = CurveDisplay.from_frame(curves_frame)
    y = display.lines_[1.0, 0.1, "loss_triggered"].get_ydata()
    assert np.isnan(y[4]) and np.isfinite(np.delete(y, 4)).all()
    (cross,) = display.failures_
    assert list(cross.get_xdata()) == [0.24] and cross.get_marker() == "x"
    assert "failed" in [t.get_text() for t in display.legend_.get_texts()]


def test_different_experiments_are_not_averaged(curves_frame):
    both = pd.concat([curves_frame, curves_frame.assign(learner="ridge")])
    with pytest.raises(InvalidInput, match="2 values of `learner`"):
        CurveDisplay.from_frame(both)
    CurveDisplay.from_frame(both[both["fraction"] == 0.1], group="learner")


def test_bad_tables_are_refused(curves_frame):
    with pytest.raises(InvalidInput, match="no column 'loss_clean'"):
        CurveDisplay.from_frame(curves_frame.drop(columns="loss_clean"))
    with pytest.raises(InvalidInput, match="no rows"):
        CurveDisplay.from_frame(curves_frame.iloc[:0])
    with pytest.raises(InvalidInput, match="expected a pandas DataFrame"):
        CurveDisplay.from_frame({"beta": [0.0]})
    with pytest.raises(InvalidInput, match="xscale='log'"):
        CurveDisplay.from_frame(curves_frame, xscale="log")
    with pytest.raises(InvalidInput, match="needs the columns bk"):
        CurveDisplay.from_frame(curves_frame.drop(columns="bk"), accuracy=True)


# ----- slope


def test_slopes_are_drawn_on_a_scale_that_does_not_saturate(slopes_frame):
    display = SlopeDisplay.from_frame(slopes_frame)
    assert display.sign_ == -1 and display.ax_.get_yscale() == display.ax_.get_xscale() == "log"
    assert display.ax_.get_ylabel().startswith("slope, as −dL/dβ")
    x, y = display.lines_["ridge"].get_data()
    np.testing.assert_array_equal(x, [1e-3, 1e-1, 10.0, 1e3])
    np.testing.assert_allclose(y, 900 / x * 1.2)
    assert set(display.bands_) == {"ridge", "logistic", "rbf_svm"}
    np.testing.assert_allclose(
        display.summary.query("group == 'ridge' and x == 10")[["low", "high"]], [[-122.4, -93.6]]
    )


def test_slopes_of_both_signs_go_to_symlog(slopes_frame):
    slopes_frame.loc[slopes_frame["reg"] == 1e3, "slope"] *= -1
    display = SlopeDisplay.from_frame(slopes_frame)
    assert display.ax_.get_yscale() == "symlog" and display.sign_ == 1
    assert display.lines_["logistic"].get_ydata()[-1] > 0
    with pytest.raises(InvalidInput, match="both signs"):
        display.plot(yscale="log")


def test_failed_cells_are_crosses_small_where_some_repeats_are_left(slopes_frame):
    all_lost = (slopes_frame["learner"] == "rbf_svm") & (slopes_frame["reg"] == 10)
    some_lost = (slopes_frame["learner"] == "rbf_svm") & (slopes_frame["reg"] == 1e3) & (slopes_frame["repeat"] < 2)
    slopes_frame.loc[all_lost, "status"] = "NO_MARGIN_VECTORS"
    slopes_frame.loc[some_lost, "slope"] = np.nan
    display = SlopeDisplay.from_frame(slopes_frame)
    assert set(display.failures_) == {"rbf_svm"}
    crosses = display.failures_["rbf_svm"]
    np.testing.assert_array_equal(crosses.get_offsets()[:, 0], [10, 1e3])
    assert crosses.get_sizes()[0] > crosses.get_sizes()[1]
    y = display.lines_["rbf_svm"].get_ydata()
    assert np.isnan(y[2]) and np.isfinite(y[3])
    # The strip of crosses holds no data.
    display.figure_.draw_without_rendering()
    to_axes = display.ax_.transData + display.ax_.transAxes.inverted()
    lowest = min(to_axes.transform((1, np.nanmin(line.get_ydata())))[1] for line in display.lines_.values())
    assert lowest > 0.08


def test_scatter_holds_every_cell(slopes_frame):
    slopes_frame.loc[0, ["status", "slope"]] = ["SINGULAR", np.nan]
    display = SlopeScatterDisplay.from_frame(slopes_frame)
    points = display.scatters_["bk", "ridge"].get_offsets()
    rows = slopes_frame[(slopes_frame["learner"] == "ridge") & (slopes_frame["status"] == "ok")]
    np.testing.assert_allclose(points, rows[["slope", "bk"]].to_numpy() * [-1, 1])
    np.testing.assert_allclose(display.scatters_["bk", "ridge"].get_array(), rows["reg"])
    assert len(display.failures_["accuracy_clean"].get_offsets()) == 1
    assert display.colorbar_.ax.get_ylabel() == "regularisation λ"


# ----- deviation


def test_deviation_keeps_the_order_of_beta():
    nu = np.array([0.0, 0.1, 0.3, 0.35, 0.3, 0.2, 0.15, 0.1])  # turns back: sorting by nu would scramble it
    rho = np.linspace(50, 150, len(BETA))
    display = DeviationDisplay.from_deviation(SimpleNamespace(beta=BETA, nu=nu, rho=rho, rho_relative=rho / 50))
    x, y = display.lines_["", ""].get_data()
    np.testing.assert_array_equal(x, nu)
    np.testing.assert_array_equal(y, rho)
    texts = [t.get_text() for t in display.labels_]
    assert texts[0] == "β = 0" and texts[-1] == "β = 1"
    relative = DeviationDisplay.from_deviation(
        SimpleNamespace(beta=BETA, nu=nu, rho=rho, rho_relative=rho / 50), relative=True, annotate=[0.1]
    )
    np.testing.assert_array_equal(relative.lines_["", ""].get_ydata(), rho / 50)
    assert [t.get_text() for t in relative.labels_] == ["β = 0.1"]


def _paths():
    rows = []
    for learner in ("ridge", "rbf_svm"):
        for repeat in range(3):
            for beta in BETA:
                row = {"learner": learner, "repeat": repeat, "beta": beta, "status": "ok"}
                rows.append(row | {"nu": 0.1 * beta + 0.01 * repeat, "rho": 1 + beta * (1 + repeat)})
    return pd.DataFrame(rows)


def test_deviation_draws_every_repeat_and_their_median():
    display = DeviationDisplay.from_frame(_paths().sample(frac=1.0, random_state=1))
    assert len(display.repeats_["", "ridge"]) == 3
    np.testing.assert_allclose(display.lines_["", "ridge"].get_ydata(), 1 + 2 * BETA)
    assert any("β = " in t.get_text() for t in display.legend_.get_texts())


def test_deviation_shows_failed_betas_and_refuses_two_paths_as_one():
    frame = _paths()
    frame.loc[(frame["learner"] == "ridge") & (frame["beta"] == 0.24), "status"] = "MAX_STEPS"
    display = DeviationDisplay.from_frame(frame)
    assert np.isnan(display.lines_["", "ridge"].get_xdata()[4])
    (cross,) = display.failures_
    np.testing.assert_allclose(cross.get_xdata(), [0.1 * 0.24 + 0.01])
    with pytest.raises(InvalidInput, match="twice on one path"):
        DeviationDisplay.from_frame(frame.drop(columns="repeat"))


# ----- pictures


def test_influence_rows_are_signed_and_sorted():
    values = np.array([0.5, -1.0, 0.0, -3.0, 2.0, -1.0, 1e-3])
    images = np.arange(7 * 16, dtype=float).reshape(7, 4, 4) / 112
    display = InfluenceDisplay.from_influence(
        values, images, images[0], labels=list("abcdefg"), n=2, loss="logistic", backdoor=values < 0
    )
    assert list(display.helpful_) == [3, 1] and list(display.harmful_) == [4, 0]
    np.testing.assert_array_equal(display.images_["helpful", 0].get_array(), images[3])
    np.testing.assert_array_equal(display.images_["harmful", 1].get_array(), images[0])
    texts = [t.get_text() for t in display.texts_]
    assert "−3.00" in texts and "+2.00" in texts and "influence in nats per unit of weight" in texts
    assert display.ax_[0, 1].get_title() == "b"


def test_influence_says_when_a_row_is_empty_and_scales_small_numbers():
    display = InfluenceDisplay.from_influence(np.array([-2e-5, -1e-5, 0.0]), np.zeros((3, 4, 4)), np.zeros((4, 4)))
    assert len(display.harmful_) == 0 and list(display.helpful_) == [0, 1]
    texts = [t.get_text() for t in display.texts_]
    assert "no harmful sample" in texts and "−2.00" in texts and any("10^{-5}" in t for t in texts)


def test_influence_refuses_what_it_cannot_draw():
    with pytest.raises(InvalidInput, match="not finite"):
        InfluenceDisplay.from_influence(np.array([np.nan]), np.zeros((1, 4, 4)), np.zeros((4, 4)))
    with pytest.raises(InvalidInput, match="2 images for 1"):
        InfluenceDisplay.from_influence(np.array([1.0]), np.zeros((2, 4, 4)), np.zeros((4, 4)))
    with pytest.raises(InvalidInput, match="image_shape"):
        InfluenceDisplay.from_influence(np.array([1.0]), np.zeros((1, 48)), np.zeros(48))


def test_image_grid_takes_rows_in_channel_order():
    rng = np.random.default_rng(0)
    images = rng.random((4, 3, 5, 6))
    display = ImageGrid.from_images(images.reshape(4, -1), image_shape=(3, 5, 6), ncols=3, captions=list("abcd"))
    np.testing.assert_allclose(display.images_[1].get_array(), images[1].transpose(1, 2, 0))
    assert len(display.figure_.axes) == 4
    with pytest.raises(InvalidInput, match="`captions` holds 1"):
        ImageGrid.from_images(images, captions=["a"])
    with pytest.raises(InvalidInput, match="no image"):
        ImageGrid.from_images(images[:0])


def test_gradients_share_one_symmetric_scale():
    g0, g1 = np.linspace(-1, 1, 16), np.linspace(-4, 2, 16)
    display = GradientDisplay.from_gradients({"clean": g0, "poisoned": g1}, images=np.zeros((1, 16)))
    assert [i.get_clim() for i in display.images_[0]] == [(-4, 4), (-4, 4)]
    np.testing.assert_array_equal(display.images_[0, 1].get_array(), g1.reshape(4, 4))
    assert display.colorbars_[0].ax.get_xlabel() == "score per unit of pixel value"
    own = GradientDisplay.from_gradients({"clean": g0, "poisoned": g1}, share=False)
    assert [i.get_clim() for i in own.images_[0]] == [(-1, 1), (-4, 4)] and len(own.colorbars_) == 2
    colour = GradientDisplay.from_gradients({"m": np.arange(12.0)}, image_shape=(3, 2, 2))
    np.testing.assert_array_equal(colour.images_[0, 0].get_array(), np.arange(12.0).reshape(3, 2, 2).sum(axis=0))
    with pytest.raises(InvalidInput, match="different shapes"):
        GradientDisplay.from_gradients({"a": g0, "b": np.zeros(9)})
    with pytest.raises(InvalidInput, match="not finite"):
        GradientDisplay.from_gradients({"a": g0 * np.nan})


# ----- maps


def test_map_holds_medians_crosses_and_the_region(map_frame):
    map_frame.loc[(map_frame["reg"] == 100) & (map_frame["gamma"] == 1.0), "status"] = "SINGULAR"
    display = MapDisplay.from_frame(map_frame, safe="safe", boundaries=[([1e-3, 1.0], [0.1, 1.0])])
    values = display.meshes_["bk"].get_array()
    assert values.shape == (3, 4) and values.mask[2, 3] and values.mask.sum() == 1
    assert values[1, 2] == pytest.approx(1 / 1.1 + 0.005)
    assert display.failures_["bk"].get_xydata().tolist() == [[1.0, 100.0]]
    assert display.meshes_["bk"].get_clim() == (0, 1)
    assert set(display.regions_) == {"bk", "accuracy_clean"}
    assert len(display.boundaries_["bk"]) == 1
    assert display.ax_[0].get_xscale() == display.ax_[0].get_yscale() == "log"
    np.testing.assert_allclose(display.ax_[0].get_xlim(), [10**-3.5, 10**0.5])


def test_a_map_in_given_axes_can_leave_its_colorbar_to_the_figure(map_frame):
    figure = Figure()
    axes = figure.subplots(1, 2)
    shown = [
        MapDisplay.from_frame(map_frame, values="bk", ax=ax, legend=False, colorbar=bar)
        for ax, bar in zip(axes, (True, False), strict=True)
    ]
    assert list(shown[0].colorbars_) == ["bk"] and shown[1].colorbars_ == {}
    assert len(figure.axes) == 3 and shown[1].figure_ is figure


def test_outline_runs_along_the_cells():
    one = outline(np.array([[True]]), np.array([0.0, 1.0]), np.array([0.0, 2.0]))
    assert sorted(one) == [[(0, 0), (0, 2)], [(0, 0), (1, 0)], [(0, 2), (1, 2)], [(1, 0), (1, 2)]]
    two = outline(np.array([[True, True]]), np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0]))
    assert len(two) == 6 and [(1, 0), (1, 1)] not in two


def test_map_refuses_names_as_axes(map_frame):
    with pytest.raises(InvalidInput, match="`gamma` is not numeric"):
        MapDisplay.from_frame(map_frame.assign(gamma="scale"))


def test_tangent_touches_the_curve_and_shows_the_breakpoint():
    import learningcurves as lc

    problem = lc.poison(lc.load_digits_pair(7, 1), lc.RandomPatch(size=3, seed=0), fraction=0.1, seed=0)
    for learner in (lc.Logistic(reg=1.0), lc.LinearSVM(reg=10.0)):
        slope = lc.backdoor_slope(learner, problem)
        display = slope.plot()
        beta, loss = display.line_.get_data()
        assert loss[beta == slope.at] == pytest.approx(slope.loss, rel=1e-12)
        assert display.tangent_.get_slope() == slope.value
        assert (display.breakpoint_ is None) == (not np.isfinite(slope.breakpoint))
        assert "nats" in display.ax_.get_ylabel() or isinstance(learner, lc.LinearSVM)
