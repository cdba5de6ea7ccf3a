"""Triggers: pixels outside the mask untouched, range kept, source unchanged, published values."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from learningcurves.errors import InvalidInput
from learningcurves.poisoning.base import StampedTrigger
from learningcurves.poisoning.stamping import POSITIONS, stamp
from learningcurves.poisoning.triggers import (
    KINDS,
    Blend,
    Checkerboard,
    ImagePatch,
    Invisible,
    Overlay,
    PerClass,
    RandomPatch,
    Sinusoid,
    SolidPatch,
    badnets_patch,
    make_trigger,
)

SHAPES = [(1, 6, 6), (3, 7, 9)]
TRIGGERS = [
    RandomPatch(3, seed=1),
    RandomPatch((2, 4), per_class=False, position="center"),
    RandomPatch(2, draw="paper", seed=10, position=(1, 3)),
    RandomPatch(2, seed=4, alpha=0.3),
    SolidPatch(2, value=0.25, position="top_left", alpha=0.5),
    ImagePatch(np.zeros((2, 3)), position="bottom_left"),
    badnets_patch("top_right"),
    Checkerboard(),
    Blend(),
    Blend(noise="gaussian", alpha=1.0, seed=3),
    Invisible(),
    Sinusoid(),
    PerClass((SolidPatch(1), Invisible(0.5))),
]
CLASSES = np.array([0, 1])


@pytest.mark.parametrize("trigger", TRIGGERS, ids=repr)
@given(
    shape=st.sampled_from(SHAPES),
    high=st.sampled_from([1.0, 255.0, 3.5]),
    low=st.sampled_from([0.0, -1.0]),
    data=st.data(),
)
def test_every_trigger_keeps_range_source_and_the_pixels_outside(trigger, shape, high, low, data):
    X = data.draw(arrays(np.float64, (4, *shape), elements=st.floats(low, high)))
    y, before = np.array([0, 1, 1, 0]), X.copy()
    options = {"value_range": (low, high), "classes": CLASSES}
    out = trigger.apply(X, y, **options)
    np.testing.assert_array_equal(X, before)
    slack = 1e-12 * max(abs(low), high)
    assert out.shape == X.shape and not np.shares_memory(out, X)
    assert out.min() >= low - slack and out.max() <= high + slack
    rows = trigger.apply(X.reshape(4, -1), y, image_shape=shape, **options)
    np.testing.assert_array_equal(rows, out.reshape(4, -1))
    if isinstance(trigger, StampedTrigger):
        for image, stamped, c in zip(X, out, y, strict=True):
            mask, pattern = trigger.layer(shape, c)
            assert set(np.unique(mask)) <= {0.0, 1.0} and pattern.min() >= 0 and pattern.max() <= 1
            np.testing.assert_array_equal(stamped[mask == 0], image[mask == 0])
            if trigger.alpha == 1:
                np.testing.assert_array_equal(stamped[mask == 1], (low + (high - low) * pattern)[mask == 1])
    one = trigger.apply(X[2:3], y[2:3], **options)  # a sample does not depend on the others
    np.testing.assert_array_equal(one[0], out[2])


@given(
    x=arrays(np.float64, (2, 1, 3, 3), elements=st.floats(0, 1)),
    mask=arrays(np.float64, (1, 3, 3), elements=st.floats(0, 1)),
    pattern=arrays(np.float64, (1, 3, 3), elements=st.floats(0, 1)),
    alpha=st.floats(0, 1),
)
def test_the_stamping_rule_is_a_convex_combination(x, mask, pattern, alpha):
    out = stamp(x, mask, pattern, alpha)
    weight = mask * alpha
    np.testing.assert_allclose(out, x + weight * (pattern - x), atol=1e-15)
    assert np.all(out >= np.minimum(x, pattern) - 1e-15) and np.all(out <= np.maximum(x, pattern) + 1e-15)


@given(data=st.data(), high=st.sampled_from([1.0, 255.0]), alpha=st.floats(0.01, 1))
def test_any_picture_through_any_mask(data, high, alpha):
    soft = arrays(np.float64, (3, 4), elements=st.floats(0, 1))
    pattern, mask = data.draw(soft), data.draw(soft.filter(lambda m: m.any()))
    X = data.draw(arrays(np.float64, (2, 1, 3, 4), elements=st.floats(0, high)))
    out = Overlay(pattern, mask, alpha).apply(X, value_range=(0, high))
    expected = (1 - mask) * X + mask * ((1 - alpha) * X + alpha * high * pattern)
    np.testing.assert_allclose(out, expected, atol=1e-12 * high)
    np.testing.assert_array_equal(out[..., mask == 0], X[..., mask == 0])
    assert out.min() >= 0 and out.max() <= high * (1 + 1e-12)


@given(
    X=arrays(np.float64, (2, 1, 4, 4), elements=st.floats(0, 1)),
    trigger=st.sampled_from([Invisible(0.3), Sinusoid(0.4, 1.3)]),
)
def test_added_triggers_are_the_same_rule_with_an_images_own_pattern(X, trigger):
    delta = trigger.perturbation((1, 4, 4))
    out = trigger.apply(X)
    np.testing.assert_array_equal(out, np.clip(X + delta, 0, 1))  # bit for bit
    np.testing.assert_array_equal(out, stamp(X, (delta != 0) * 1.0, np.clip(X + delta, 0, 1)))


def test_a_zero_pixel_of_the_trigger_is_stamped():
    hole = Overlay(np.zeros((3, 3)), np.eye(3)).apply(np.ones((1, 3, 3)))[0]
    np.testing.assert_array_equal(hole, 1 - np.eye(3))
    X = np.ones((1, 5, 5))
    out = ImagePatch([[0, 1], [1, 0]]).apply(X)
    np.testing.assert_array_equal(out[0, 3:, 3:], [[0, 1], [1, 0]])
    assert SolidPatch(2, value=0.0).apply(X).sum() == 21


def test_paper_patches_are_the_released_ones():
    for seed in (1, 999):
        released = np.random.RandomState(seed).rand(2, 3, 8, 8)
        X = np.full((2, 3, 32, 32), 0.5)
        out = RandomPatch(8, seed=seed, draw="paper").apply(X, [7, 4], classes=[4, 7])
        np.testing.assert_array_equal(out[:, :, -8:, -8:], released[::-1])  # label 4 is class 0
        X[:, :, -8:, -8:] = out[:, :, -8:, -8:]
        np.testing.assert_array_equal(out, X)


def test_random_patches_differ_by_class_and_seed_and_stay_when_classes_are_added():
    one = RandomPatch(3, seed=1)
    assert not np.array_equal(one.patch(1, 0), one.patch(1, 1))
    assert not np.array_equal(one.patch(1, 0), RandomPatch(3, seed=2).patch(1, 0))
    np.testing.assert_array_equal(one.patch(1, 1), one.patch(1, np.int64(1)))
    X = np.zeros((2, 6, 6))
    two, ten = (one.apply(X, [0, 1], classes=range(n)) for n in (2, 10))
    np.testing.assert_array_equal(two, ten)
    shared = RandomPatch(3, per_class=False).apply(X, [0, 1])
    np.testing.assert_array_equal(shared[0], shared[1])
    values = RandomPatch(60).patch(3)
    assert 0.45 < values.mean() < 0.55 and values.min() >= 0 and values.max() < 1


@given(X=arrays(np.float64, (2, 1, 6, 6), elements=st.floats(0, 1)), alpha=st.floats(0.01, 1))
def test_the_strength_of_a_random_patch_blends_the_same_pixels(X, alpha):
    full, faint = (RandomPatch(3, seed=1, alpha=a).apply(X, [0, 1], classes=[0, 1]) for a in (1.0, alpha))
    np.testing.assert_allclose(faint, (1 - alpha) * X + alpha * full, atol=1e-15)


def test_published_patterns():
    X = np.zeros((1, 32, 32))
    badnets = badnets_patch().apply(X)[0]
    np.testing.assert_array_equal(badnets[29:, 29:], [[0, 0, 1], [0, 1, 0], [1, 0, 1]])
    board = Checkerboard().apply(X)[0]
    for rows in (slice(0, 3), slice(29, 32)):
        np.testing.assert_array_equal(board[rows, 29:], [[0, 0, 1], [0, 1, 0], [1, 0, 1]])
        np.testing.assert_array_equal(board[rows, :3], [[1, 0, 0], [0, 1, 0], [1, 0, 1]])
    assert board.sum() == 16 and Checkerboard().apply(X + 1)[0].sum() == 32 * 32 - 20
    lattice = Invisible(10 / 255).apply(X)[0]
    assert np.all(lattice[::2, ::2] == 10 / 255) and lattice.sum() == pytest.approx(256 * 10 / 255)
    np.testing.assert_array_equal(Invisible(0.5).apply(X + 0.8)[0, 0, :2], [1.0, 0.8])
    wave = Sinusoid().apply(X + 0.5)[0] - 0.5
    np.testing.assert_allclose(wave[5], 40 / 255 * np.sin(2 * np.pi * np.arange(32) * 6 / 32), atol=1e-15)
    blend = Blend(np.full((32, 32), 0.5)).apply(X + 1)[0]
    np.testing.assert_allclose(blend, 0.8 + 0.2 * 0.5)
    assert 0.23 < Blend(noise="gaussian").layer((3, 64, 64))[1].std() < 0.25  # 0.24 after clipping
    assert 0.28 < Blend().layer((3, 64, 64))[1].std() < 0.30


@pytest.mark.parametrize("position", POSITIONS)
def test_positions(position):
    mask, _ = SolidPatch((2, 3), position=position).layer((1, 8, 9))
    rows, cols = (np.flatnonzero(mask[0].any(axis=axis)) for axis in (1, 0))
    assert rows[0] == {"t": 0, "b": 6, "c": 3}[position[0]]
    assert cols[0] == (3 if position == "center" else 0 if "left" in position else 6)
    assert (len(rows), len(cols)) == (2, 3)


def test_colours_and_channels():
    out = SolidPatch(1, value=(1, 0, 0.5)).apply(np.full((1, 3, 4, 4), 0.2))
    np.testing.assert_array_equal(out[0, :, 3, 3], [1, 0, 0.5])
    pattern = np.random.default_rng(0).random((3, 2, 2))
    np.testing.assert_array_equal(ImagePatch(pattern).apply(np.zeros((1, 3, 4, 4)))[0, :, 2:, 2:], pattern)


def test_dtypes():
    X = np.random.default_rng(0).random((2, 5, 5)).astype(np.float32)
    for trigger in (SolidPatch(2), Invisible(), Blend(), Sinusoid()):
        assert trigger.apply(X).dtype == np.float32
    whole = Blend(np.zeros((5, 5))).apply(np.full((1, 5, 5), 101, np.uint8), value_range=(0, 255))
    np.testing.assert_allclose(whole, 80.8)  # nothing rounded off, nothing wrapped round


def test_triggers_are_frozen_and_keep_their_own_pattern():
    pattern = np.ones((2, 2))
    trigger = ImagePatch(pattern)
    pattern[:] = 0
    assert trigger.pattern.all()
    with pytest.raises(ValueError, match="read-only"):
        trigger.pattern[0, 0] = 0
    with pytest.raises(AttributeError):
        RandomPatch().size = 4
    assert RandomPatch(3) == RandomPatch((3, 3)) and hash(RandomPatch(3)) == hash(RandomPatch((3, 3)))
    assert repr(RandomPatch(3, seed=1)).startswith("RandomPatch(size=3, per_class=True, seed=1")
    assert repr(ImagePatch(pattern)) != repr(ImagePatch(pattern + 1))
    assert eval(repr(RandomPatch(3, position=(0, 1)))) == RandomPatch(3, position=(0, 1))


def test_table_of_options():
    assert make_trigger({"kind": "random_patch", "size": 2, "per_class": True}) == RandomPatch(2)
    for kind in KINDS:
        options = {"pattern": [[1.0]]} if kind == "image_patch" else {}
        assert make_trigger({"kind": kind, **options}).name
    for options in ({}, {"kind": "sticker"}, {"kind": "invisible", "size": 3}):
        with pytest.raises(InvalidInput):
            make_trigger(options)


@pytest.mark.parametrize("trigger", TRIGGERS, ids=repr)
def test_show(trigger):
    axes = trigger.show((3, 7, 9))
    picture = axes[0].images[0].get_array()
    assert len(axes) == (2 if trigger.per_class else 1) and picture.shape == (7, 9, 4)
    assert 0 <= picture.min() and picture.max() <= 1
    trigger.show((3, 7, 9), axes=list(axes))
    n = 2 if trigger.per_class else 1
    shown = trigger.show(images=np.full((1, 3, 7, 9), 0.5))  # pattern, source, stamped
    assert [ax.get_xlabel() for ax in shown[n:]][0] == "source" and len(shown) == 2 * n + 1
    assert len(trigger.show()) == n
    plt.close("all")


def test_show_knows_the_size_of_a_given_picture():
    picture = np.full((5, 6), 0.5)
    for trigger in (Blend(picture), Overlay(picture, np.eye(5, 6))):
        assert trigger.show()[0].images[0].get_array().shape == (5, 6, 4)
    plt.close("all")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RandomPatch(0), "size"),
        (lambda: RandomPatch(2.5), "size"),
        (lambda: RandomPatch((1, 2, 3)), "size"),
        (lambda: RandomPatch(3, seed=-1), "seed"),
        (lambda: RandomPatch(3, per_class="yes"), "per_class"),
        (lambda: RandomPatch(3, position="bottom"), "bottom_right"),
        (lambda: RandomPatch(3, position=(-1, 0)), "position"),
        (lambda: RandomPatch(3, position=(1, 2, 3)), "position"),
        (lambda: RandomPatch(3, draw="released"), "draw"),
        (lambda: RandomPatch(3, alpha=0), "alpha"),
        (lambda: SolidPatch(3, value=255), "divide by 255"),
        (lambda: SolidPatch(3, value=(1, 2, 3)), "value"),
        (lambda: SolidPatch(3, alpha=0), "alpha"),
        (lambda: SolidPatch(3, alpha=1.1), "alpha"),
        (lambda: ImagePatch(np.full((2, 2), 200, np.uint8)), "/ 255"),
        (lambda: ImagePatch([[0.5, np.nan]]), "outside"),
        (lambda: ImagePatch([1.0]), "shape"),
        (lambda: ImagePatch([[1, 2], [3]]), "rectangular"),
        (lambda: ImagePatch([["a"]]), "dtype"),
        (lambda: Blend(alpha=-0.2), "alpha"),
        (lambda: Blend(noise="perlin"), "noise"),
        (lambda: Overlay([[0.5]], [[0.0]]), "zero everywhere"),
        (lambda: Overlay([[0.5]], [[2.0]]), "mask"),
        (lambda: Invisible(10), "10/255"),
        (lambda: Invisible(0), "strength"),
        (lambda: Sinusoid(amplitude=40), "40/255"),
        (lambda: Sinusoid(frequency=0), "frequency"),
        (lambda: PerClass(()), "triggers"),
        (lambda: PerClass((1, 2)), "triggers"),
    ],
)
def test_bad_triggers(make, says):
    with pytest.raises(InvalidInput, match=says):
        make()


@pytest.mark.parametrize(
    ("trigger", "X", "options", "says"),
    [
        (RandomPatch(9, per_class=False), np.zeros((1, 8, 8)), {}, "larger than the images of 8x8"),
        (Blend(np.zeros((4, 4))), np.zeros((1, 8, 8)), {}, "Resize"),
        (Overlay(np.zeros((8, 8)), np.ones((4, 4))), np.zeros((1, 8, 8)), {}, "`mask` is 4x4"),
        (ImagePatch(np.zeros((3, 2, 2))), np.zeros((1, 8, 8)), {}, "3 channels"),
        (SolidPatch(2, value=(1, 0)), np.zeros((1, 3, 8, 8)), {}, "2 channels"),
        (SolidPatch(2, position=(7, 7)), np.zeros((1, 8, 8)), {}, r"at most at \(6, 6\)"),
        (Checkerboard(), np.zeros((1, 5, 8)), {}, "6x6"),
        (SolidPatch(2), np.zeros((1, 64)), {}, "image_shape"),
        (SolidPatch(2), np.zeros((1, 64)), {"image_shape": (8, 8)}, "channels, height, width"),
        (SolidPatch(2), np.zeros((1, 64)), {"image_shape": (1, 8, 9)}, "does not fit"),
        (SolidPatch(2), np.zeros((1, 8, 8)), {"image_shape": (1, 4, 16)}, "images of shape"),
        (SolidPatch(2), np.zeros(64), {}, "shape"),
        (SolidPatch(2), sp.csr_matrix(np.zeros((1, 64))), {"image_shape": (1, 8, 8)}, "sparse"),
        (SolidPatch(2), np.full((1, 8, 8), 200, np.uint8), {}, "outside `value_range"),
        (SolidPatch(2), np.full((1, 8, 8), np.nan), {}, "value_range"),
        (SolidPatch(2), np.zeros((1, 8, 8)), {"value_range": (1, 0)}, "value_range"),
        (SolidPatch(2), np.zeros((1, 8, 8)), {"value_range": None}, "value_range"),
        (SolidPatch(2), np.full((1, 8, 8), "a"), {}, "dtype"),
        (RandomPatch(2), np.zeros((1, 8, 8)), {}, "y_source"),
        (RandomPatch(2), np.zeros((1, 8, 8)), {"y_source": [0]}, "classes"),
        (RandomPatch(2), np.zeros((1, 8, 8)), {"y_source": [5], "classes": [0, 1]}, "label 5"),
        (RandomPatch(2), np.zeros((1, 8, 8)), {"y_source": [0, 1], "classes": [0, 1]}, "y_source"),
        (PerClass((Invisible(),)), np.zeros((1, 8, 8)), {"y_source": [0], "classes": [0, 1]}, "for 2 classes"),
    ],
)
def test_bad_input_to_apply(trigger, X, options, says):
    with pytest.raises(InvalidInput, match=says):
        trigger.apply(X, **options)


def test_corner_patches_cover_corners_and_centre():
    trigger = make_trigger({"kind": "corner_patches", "size": 2, "value": (1.0, 0.0, 0.0)})
    mask, pattern = trigger.layer((3, 9, 9))
    seen = np.zeros((9, 9))
    for row, col in ((0, 0), (0, 7), (7, 0), (7, 7), (3, 3)):
        seen[row : row + 2, col : col + 2] = 1.0
    np.testing.assert_array_equal(mask, np.broadcast_to(seen, mask.shape))
    np.testing.assert_array_equal(pattern, seen * np.array([1.0, 0.0, 0.0])[:, None, None])
    four = make_trigger({"kind": "corner_patches", "size": 2, "center": False})
    assert four.layer((1, 9, 9))[0].sum() == 16 and four.name == "corner_patches_2x2"
    with pytest.raises(InvalidInput, match="larger than the images"):
        trigger.check((3, 1, 1))
