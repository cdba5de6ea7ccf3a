"""Curves of whole networks: shapes, common starts, resuming, intervals, drawing."""

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch")

from learningcurves.errors import InvalidInput, LearningCurvesError, Status  # noqa: E402
from learningcurves.networks import SmallCNN, evaluate, train, train_curve  # noqa: E402

pytestmark = pytest.mark.usefixtures("global_random_state_untouched")

OPTIONS = {"batch_size": 32, "lr": 0.05, "progress": False}


@pytest.fixture(scope="module")
def curve(problem):
    return train_curve(
        lambda: SmallCNN((1, 8, 8), 10, 4),
        problem,
        beta=[0.0, 0.3, 1.0],
        epochs=6,
        seeds=(0, 7, 8),
        record=[2],
        **OPTIONS,
    )


def test_shapes_and_table(curve):
    assert curve.epochs == (2, 6) and curve.bk.shape == (3, 3, 2)
    assert not curve.bk.flags.writeable
    frame = curve.to_frame()
    assert list(frame.columns[:7]) == ["beta", "seed", "epoch", "loss_triggered", "loss_clean", "bk", "accuracy_clean"]
    assert len(frame) == 18 and (frame["status"] == "ok").all()
    row = frame[(frame["beta"] == 0.3) & (frame["seed"] == 7) & (frame["epoch"] == 6)].iloc[0]
    assert row["loss_clean"] == curve.loss_clean[1, 1, 1]
    np.testing.assert_array_equal(curve.bk_floor, curve.bk[0, :, -1])
    assert "loss_triggered" in repr(curve)
    with pytest.raises(AttributeError, match="its scores are"):
        _ = curve.rho


def test_more_weight_teaches_the_backdoor(curve):
    assert (curve.loss_triggered[2, :, 1] < curve.loss_triggered[0, :, 1]).all()


def test_every_beta_starts_from_the_same_weights(problem):
    started = {}

    def remember(epoch, module, entry):
        started.setdefault(entry["objective"], None)

    # a learning rate that moves nothing leaves the start: the scores then depend on the seed alone
    still = train_curve(
        lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)),
        problem,
        beta=[0.0, 1.0],
        epochs=1,
        seeds=(0, 1),
        callbacks=remember,
        **{**OPTIONS, "lr": 1e-30},
    )
    np.testing.assert_array_equal(still.loss_clean[0], still.loss_clean[1])
    assert still.loss_clean[0, 0, 0] != still.loss_clean[0, 1, 0]


def test_a_cell_is_one_training(problem, make_cnn):
    curve = train_curve(make_cnn(), problem, beta=[0.5], epochs=2, seeds=[3], **OPTIONS)
    alone = train(make_cnn(), problem, beta=0.5, epochs=2, seed=3, **OPTIONS)
    assert curve.loss_triggered[0, 0, 0] == alone.history[-1]["loss_triggered"]
    assert evaluate(alone.module, problem)["loss_triggered"] == curve.loss_triggered[0, 0, 0]


def test_interrupted_curves_go_on(problem, make_cnn, tmp_path):
    options = {"beta": [0.0, 1.0], "epochs": 3, "seeds": (0, 1), **OPTIONS}
    whole = train_curve(make_cnn(), problem, **options)
    count = [0]

    def stop(*_):
        count[0] += 1
        if count[0] == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_curve(make_cnn(), problem, checkpoint=tmp_path, callbacks=stop, **options)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    epochs = []
    resumed = train_curve(
        make_cnn(), problem, checkpoint=tmp_path, callbacks=lambda epoch, *_: epochs.append(epoch), **options
    )
    assert epochs == [3, 1, 2, 3]
    for name, values in whole.scores.items():
        np.testing.assert_array_equal(values, resumed.scores[name])


def test_failed_trainings_are_gaps(problem, make_cnn):
    curve = train_curve(make_cnn(), problem, beta=[0.0, 1.0], epochs=8, seeds=[0], loss="mse", **{**OPTIONS, "lr": 1e9})
    assert curve.status == ((Status.DIVERGED,), (Status.DIVERGED,))
    assert curve.scores == {} and (curve.to_frame()["status"] == "diverged").all()


def test_intervals(curve):
    values = curve.loss_clean[:, :, -1]
    frame = curve.interval("loss_clean", level=0.9)
    for row, seeds in zip(frame.itertuples(), values, strict=True):
        low, high = stats.t.interval(0.9, 2, seeds.mean(), stats.sem(seeds))
        assert (row.low, row.mid, row.high) == pytest.approx((low, seeds.mean(), high), rel=1e-12)
    change = curve.interval("loss_clean", change=True)
    assert change["mid"].iloc[0] == 0 and change["mid"].iloc[2] == pytest.approx((values[2] - values[0]).mean())
    bootstrap = curve.interval("bk", method="bootstrap", epoch=2)
    assert ((bootstrap["low"] <= bootstrap["mid"]) & (bootstrap["mid"] <= bootstrap["high"])).all()
    assert (frame["n"] == 3).all() and (frame["n_failed"] == 0).all()
    for arguments, message in [(("rho",), "score"), (("bk",), "epoch=3")]:
        with pytest.raises(InvalidInput, match=message):
            curve.interval(*arguments, epoch=3)


def test_plot(curve, tmp_path):
    from matplotlib.figure import Figure

    display = curve.plot()
    assert set(display.lines_) == {
        ("", "", score) for score in ("loss_triggered", "loss_clean", "bk", "accuracy_clean")
    }
    np.testing.assert_allclose(display.lines_["", "", "bk"].get_ydata(), curve.bk[:, :, -1].mean(axis=1))
    assert "nats" in display.ax_[0, 0].get_ylabel()
    axes = Figure().subplots()
    assert curve.plot(ax=axes, epoch=2).ax_ is axes


@pytest.mark.slow
def test_parallel_trainings_give_the_same(problem, make_cnn):
    options = {"beta": [0.0, 1.0], "epochs": 1, "seeds": [0], **OPTIONS}
    one, two = (train_curve(make_cnn(), problem, n_jobs=n, **options) for n in (1, 2))
    np.testing.assert_array_equal(one.loss_triggered, two.loss_triggered)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": [0.5, 0.1]}, "strictly increasing"),
        ({"seeds": ()}, "at least one seed"),
        ({"seeds": (1, 1)}, "only once"),
        ({"seed": 3}, "`seed` is set by"),
        ({"record": "none"}, "`record='none'`"),
        ({"make_module": 3}, "expected a function"),
        ({"make_module": lambda: 3}, "returned a int"),
        ({"epochs": 0}, "`epochs=0`"),
    ],
)
def test_bad_arguments_are_named(problem, make_cnn, change, message):
    options = {"make_module": make_cnn, "beta": [0.0, 1.0], "epochs": 1, **OPTIONS, **change}
    with pytest.raises(LearningCurvesError) as caught:
        train_curve(problem=problem, **options)
    assert message in str(caught.value)
