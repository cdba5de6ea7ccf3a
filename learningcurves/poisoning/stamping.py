"""The one stamping rule, and where on the image a patch goes. Pure functions: the source is never changed."""

import numpy as np
import scipy.sparse as sp

from learningcurves.checks import check_integer
from learningcurves.errors import InvalidInput

POSITIONS = ("bottom_right", "bottom_left", "top_left", "top_right", "center")
_SLACK = 1e-12  # rounding of a scaled pixel, e.g. 255 * (1 / 255)


def stamp(images, mask, pattern, alpha=1.0):
    r"""Return the images with the pattern blended in where the mask says.

    .. math:: x' = (1 - m)\,x + m\,\bigl((1 - \alpha)\,x + \alpha\,p\bigr)

    Mask, pattern and blending weight are separate, so a pattern pixel of value 0 is stamped like any other; where
    m = 0 the result is x bit for bit, where m = alpha = 1 it is p bit for bit.

    Parameters
    ----------
    images : ndarray of shape (n, C, H, W)
        Source images; not changed.
    mask : array broadcastable to (C, H, W)
        Mask m in [0, 1].
    pattern : array broadcastable to (C, H, W), or to (n, C, H, W) where every image has its own
        Pattern p in the units of the images.
    alpha : float, default=1
        Weight of the pattern inside the mask, in [0, 1].

    Returns
    -------
    ndarray of shape (n, C, H, W)
    """
    return (1 - mask) * images + mask * ((1 - alpha) * images + alpha * pattern)


def check_position(position):
    """Return a named corner or a (row, column) of the patch's top left pixel."""
    if isinstance(position, str) and position in POSITIONS:
        return position
    if isinstance(position, tuple | list) and len(position) == 2:
        return tuple(check_integer(p, "position", low=0, hint="Rows and columns count from 0.") for p in position)
    raise InvalidInput(
        f"`position={position!r}` is not one of {', '.join(map(repr, POSITIONS))}, nor (row, column) of the top left pixel."
    )


def corner(position, size, image_shape):
    """Return (row, column) of the top left pixel of a patch of `size` (h, w); an error if it does not fit."""
    (h, w), (_, H, W) = size, image_shape
    if h > H or w > W:
        raise InvalidInput(
            f"the trigger is {h}x{w} pixels, larger than the images of {H}x{W} (`image_shape={image_shape}`). "
            "Choose a smaller `size` or `pattern`."
        )
    if isinstance(position, str):
        if position == "center":
            return (H - h) // 2, (W - w) // 2
        return (0 if "top" in position else H - h), (0 if "left" in position else W - w)
    row, col = position
    if row + h > H or col + w > W:
        raise InvalidInput(
            f"`position={position}` puts a {h}x{w} trigger outside images of {H}x{W}. "
            f"Its top left pixel can be at most at ({H - h}, {W - w})."
        )
    return row, col


def check_pattern(pattern, name="pattern"):
    """Return a pattern as a read-only float array of shape (h, w) or (C, h, w) with values in [0, 1]."""
    try:
        values = np.array(pattern)  # a copy: a later change of the caller's array must not change the trigger
    except ValueError as error:
        raise InvalidInput(f"`{name}` is not a rectangular array ({error}).") from None
    if values.dtype.kind not in "fiub" or values.ndim not in (2, 3) or values.size == 0:
        raise InvalidInput(
            f"`{name}` has dtype {values.dtype} and shape {values.shape}; expected numbers of shape (h, w) or (C, h, w)."
        )
    if values.dtype == np.uint8 and values.max() > 1:
        raise InvalidInput(
            f"`{name}` holds integer pixels up to {values.max()}. Pass `{name} / 255`: 1 is full brightness."
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise InvalidInput(
            f"`{name}` holds values outside [0, 1]. 0 is the low and 1 the high end of the data's value range; divide by 255?"
        )
    values.flags.writeable = False
    return values


def pattern_on(pattern, image_shape, name="pattern"):
    """Return the pattern with the channels of the images: (h, w) is repeated, (C, h, w) must agree."""
    channels = image_shape[0]
    if pattern.ndim == 2:
        return np.broadcast_to(pattern, (channels, *pattern.shape))
    if pattern.shape[0] != channels:
        raise InvalidInput(
            f"`{name}` has {pattern.shape[0]} channels where the images have {channels} (`image_shape={image_shape}`). "
            "Pass shape (h, w) to use it on every channel."
        )
    return pattern


def check_image_shape(image_shape) -> tuple[int, int, int]:
    """Return (channels, height, width) as ints."""
    if image_shape is None:
        raise InvalidInput(
            "`image_shape` is not known, so a trigger has no place to go. Give `image_shape=(channels, height, width)` if "
            "the rows are flattened images; for plain features build BackdoorProblem(...) from your own arrays."
        )
    shape = tuple(image_shape)
    if len(shape) != 3:
        raise InvalidInput(f"`image_shape={image_shape!r}` is not (channels, height, width).")
    channels, height, width = (
        check_integer(s, "image_shape", low=1, hint="It is (channels, height, width).") for s in shape
    )
    return channels, height, width


def check_value_range(value_range):
    """Return (low, high) as floats with low < high."""
    try:
        low, high = (float(v) for v in value_range)
    except (TypeError, ValueError):
        raise InvalidInput(f"`value_range={value_range!r}` is not (low, high) with low < high.") from None
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InvalidInput(f"`value_range={value_range!r}` is not (low, high) with low < high.")
    return low, high


def check_in_range(X, name, value_range):
    """Refuse values outside the stated range: a trigger scaled to the wrong range would be another trigger."""
    low, high = value_range
    slack = _SLACK if X.dtype != np.float32 else 1e-6
    slack *= max(1.0, abs(low), abs(high))
    if X.size and not (X.min() >= low - slack and X.max() <= high + slack):
        raise InvalidInput(
            f"`{name}` holds values in [{X.min():g}, {X.max():g}], outside `value_range=({low:g}, {high:g})`. "
            "State the range the values really have, or remove NaN."
        )


def as_images(X, image_shape, value_range):
    """Return samples as images (n, C, H, W) without copying floats, and their shape (C, H, W).

    Rows of shape (n, d) need `image_shape`; (n, H, W) are grey images. Integers become float64 so that nothing is
    rounded off; float32 stays float32.
    """
    if sp.issparse(X):
        raise InvalidInput("`X` is sparse, and triggers go on dense images. Pass `X.toarray()`.")
    X = np.asarray(X)
    if X.dtype.kind not in "fiub":
        raise InvalidInput(f"`X` has dtype {X.dtype}; expected real numbers.")
    if X.dtype.kind != "f":
        X = X.astype(np.float64)
    if X.ndim not in (2, 3, 4):
        raise InvalidInput(f"`X` has shape {X.shape}; expected rows (n, d) or images (n, H, W) or (n, C, H, W).")
    if X.ndim == 2:
        shape = check_image_shape(image_shape)
        if int(np.prod(shape)) != X.shape[1]:
            raise InvalidInput(f"`image_shape={shape}` does not fit rows of {X.shape[1]} features.")
    else:
        shape = (1, *X.shape[1:]) if X.ndim == 3 else X.shape[1:]
        if image_shape is not None and check_image_shape(image_shape) != shape:
            raise InvalidInput(f"`X` holds images of shape {shape} where `image_shape={tuple(image_shape)}`.")
    check_in_range(X, "X", value_range)
    return X.reshape(len(X), *shape), shape
