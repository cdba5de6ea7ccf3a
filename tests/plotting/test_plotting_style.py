import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from learningcurves.errors import InvalidInput
from learningcurves.plotting import style
from learningcurves.plotting.labels import axis_label, format_value, learner_loss, learner_name, name_value
from learningcurves.plotting.scales import edges, linear_threshold, one_sign, symlog_ticks


def test_palette_is_the_one_matplotlib_ships():
    if "petroff10" not in matplotlib.color_sequences:
        pytest.skip("matplotlib < 3.10 does not ship petroff10")
    shipped = [matplotlib.colors.to_hex(c) for c in matplotlib.color_sequences["petroff10"]]
    assert list(style.PALETTE.values()) == shipped


def test_learners_keep_their_style_in_whatever_company():
    alone = style.group_styles(["ridge"])["ridge"]
    company = style.group_styles(["zebra", "rbf_svm", "ridge", "logistic"])
    assert company["ridge"] == alone
    for mark in ("color", "marker", "linestyle"):
        assert len({str(getattr(s, mark)) for s in company.values()}) == 4


def test_numbers_get_styles_by_size_and_more_groups_than_colours_still_differ():
    assert list(style.group_styles([0.2, 0.01, 0.1])) == [0.01, 0.1, 0.2]
    many = style.group_styles(range(15))
    assert len({s.color for s in many.values()}) == 15


@pytest.mark.parametrize(
    ("given", "name", "loss"),
    [
        ("Logistic", "logistic", "logistic"),
        ("LogisticRegression", "logistic", "logistic"),
        ("RidgeClassifier", "ridge", "squared"),
        ("LinearSVC", "linear_svm", "hinge"),
        ("LinearSVM", "linear_svm", "hinge"),
        ("KernelSVM", "rbf_svm", "hinge"),
        ("Softmax", "softmax", "softmax"),
        ("never heard of", "never_heard_of", None),
    ],
)
def test_names_of_learners(given, name, loss):
    assert learner_name(given) == name
    assert learner_loss(given) == loss


def test_labels_carry_the_unit_of_the_loss():
    assert axis_label("loss_triggered", "logistic") == "triggered test loss (nats)"
    assert axis_label("loss_triggered", "hinge") == "triggered test loss"
    assert axis_label("slope", "softmax") == "slope dL/dβ (nats per unit of β)"
    assert axis_label("slope", "squared") == "slope dL/dβ (per unit of β)"
    assert axis_label("my_column") == "my column"


def test_values_in_words():
    assert [format_value(v) for v in (0.1, -0.25, 0, 1e-5, 2.5e4, "ridge")] == [
        "0.1",
        "−0.25",
        "0",
        "$10^{-5}$",
        r"$2.5\!\times\!10^{4}$",
        "ridge",
    ]
    assert name_value("reg", 0.01) == "λ = 0.01"
    assert name_value("learner", "rbf_svm") == "RBF SVM"


def test_no_global_settings_and_no_pyplot():
    before = dict(matplotlib.rcParams)
    figure, axes = style.figure(2, 1, style.PAGE)
    assert axes.shape == (1, 2)
    assert figure.get_figwidth() == style.PAGE
    assert dict(matplotlib.rcParams) == before
    code = (
        "import learningcurves.plotting as p, sys; f, a = p.figure(); a[0, 0].plot([0, 1]);"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_save_writes_three_formats_and_the_same_bytes_again(tmp_path):
    figure, axes = style.figure()
    axes[0, 0].plot([0, 1], [1, 2], label="β")
    axes[0, 0].set_xlabel("β")
    first = style.save(figure, tmp_path / "reg0.1", formats=["png", "pdf", "svg"])
    assert [p.name for p in first] == ["reg0.1.png", "reg0.1.pdf", "reg0.1.svg"]
    content = [p.read_bytes() for p in first]
    assert [c[:4] for c in content] == [b"\x89PNG", b"%PDF", b"<?xm"]
    second = style.save(figure, tmp_path / "reg0.1", formats=["png", "pdf", "svg"])
    assert [p.read_bytes() for p in second] == content
    (one,) = style.save(figure, tmp_path / "alone.pdf")
    assert one.read_bytes() == content[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alone.pdf", "reg0.1.pdf", "reg0.1.png", "reg0.1.svg"]


def test_bytes_do_not_hang_on_the_hash_seed():
    code = (
        "import hashlib, learningcurves.plotting as p, learningcurves.plotting.style as s;"
        "f, a = p.figure(); a[0, 0].plot([0, 1], [1, 2]); a[0, 0].set_xlabel('weight β');"
        "print([hashlib.sha256(s.render(f, x)).hexdigest() for x in ('png', 'pdf', 'svg')])"
    )
    out = [
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert out[0] == out[1]


def test_save_refuses_other_formats_before_writing(tmp_path):
    with pytest.raises(InvalidInput, match="use .png, .pdf or .svg"):
        style.save(Figure(), tmp_path / "x.jpg")
    with pytest.raises(InvalidInput, match="'tex'"):
        style.save(Figure(), tmp_path / "x", formats=["png", "tex"])
    assert not list(tmp_path.iterdir())


def test_take_axes_says_how_many():
    axes = Figure().subplots(1, 2)
    assert style.take_axes(axes, 2, "it") == list(axes)
    with pytest.raises(InvalidInput, match="holds 1 axes where it draws 2"):
        style.take_axes(axes[0], 2, "it")


def test_scales():
    assert one_sign([-1, np.nan, -2]) == -1
    assert one_sign([1, 2]) == 1
    assert one_sign([0, 1]) == one_sign([-1, 1]) == one_sign([]) == 0
    assert linear_threshold([0, 0.03, 5]) == pytest.approx(0.01)
    assert linear_threshold([1e-14, 1.0]) == pytest.approx(1e-6)
    ticks = symlog_ticks(-1e6, 1e6, 1e-3)
    assert 0 in ticks and len(ticks) <= 8
    np.testing.assert_allclose(symlog_ticks(0, 1, 0.01), [0, 0.01, 0.1, 1])
    np.testing.assert_allclose(edges([1, 100], log=True), [0.1, 10, 1000])
    np.testing.assert_allclose(edges([0, 1, 3], log=False), [-0.5, 0.5, 2, 4])
    np.testing.assert_allclose(edges([10.0], log=True), np.sqrt([10, 1000]))
