"""Scales that neither saturate nor lose a value: logarithmic where all values allow it, symmetric-log where not."""

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatter, NullLocator

from learningcurves.errors import InvalidInput
from learningcurves.plotting.labels import format_value


def one_sign(values) -> int:
    """Return -1 or 1 if all finite values share that sign strictly, else 0."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if values.size and (values < 0).all():
        return -1
    return 1 if values.size and (values > 0).all() else 0


def linear_threshold(values, *, decades: float = 6.0) -> float:
    """Return the half-width of the linear part: the decade of the smallest value, at most `decades` under the largest.

    Without the limit a single value of 1e-14 would spend the axis on decades that hold nothing else.
    """
    size = np.abs(np.asarray(values, dtype=float))
    size = size[np.isfinite(size) & (size > 0)]
    if not size.size:
        return 1.0
    return float(10.0 ** np.floor(np.log10(max(size.min(), size.max() / 10**decades))))


def symlog_ticks(low: float, high: float, threshold: float, *, most: int = 6) -> np.ndarray:
    """Return 0 and powers of ten within [low, high], thinned to about `most`."""
    ticks = [0.0] if low <= 0 <= high else []
    decades = max(0.0, *(np.log10(max(abs(v), threshold) / threshold) for v in (low, high)))
    sides = (low < 0) + (high > 0)
    step = max(1, int(np.ceil(sides * (decades + 1) / most)))
    for exponent in range(0, int(np.floor(decades + 1e-9)) + 1, step):
        power = threshold * 10.0**exponent
        ticks += [s * power for s in (-1, 1) if low <= s * power <= high]
    return np.array(sorted(ticks))


def set_symlog(ax, which: str, values) -> None:
    """Put the axis `which` ("x" or "y") on a symmetric-log scale with few, readable ticks for these values.

    To be called before anything is drawn: limits found on a linear scale would stay.
    """
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    threshold = linear_threshold(values)
    getattr(ax, f"set_{which}scale")("symlog", linthresh=threshold, linscale=0.6)
    if not values.size:
        return
    axis: Axis = getattr(ax, f"{which}axis")
    axis.set_major_locator(FixedLocator(symlog_ticks(values.min(), values.max(), threshold).tolist()))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: format_power(v)))


def format_power(value: float) -> str:
    """Return a power of ten as such, whatever its size, and 0 as 0: on one axis all ticks look alike."""
    if value == 0:
        return "0"
    exponent = np.log10(abs(value))
    if abs(exponent - round(exponent)) > 1e-9:
        return format_value(value)
    if -2 <= round(exponent) <= 1:
        return f"{value:g}".replace("-", "−")
    return rf"${'-' if value < 0 else ''}10^{{{round(exponent)}}}$"


def set_log(ax, which: str, values) -> None:
    """Put the axis on a log scale whose decades are labelled and whose minor ticks are not.

    Like `set_symlog`, to be called before anything is drawn: limits found on a linear scale would stay.
    """
    getattr(ax, f"set_{which}scale")("log")
    values = np.asarray(values, dtype=float)
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    span = size.max() / size.min() if size.size else 1.0
    axis: Axis = getattr(ax, f"{which}axis")
    if span > 1e4:
        axis.set_minor_locator(NullLocator())  # a fringe of ticks that nobody can read
    elif span >= 10:
        axis.set_minor_formatter(FuncFormatter(lambda v, _: ""))
    elif size.size and 1e-3 <= size.min() and size.max() < 1e4:
        # under one decade minor ticks are labelled too: as 4 and 6, not as products with powers of ten
        axis.set_major_formatter(LogFormatter())
        axis.set_minor_formatter(LogFormatter())


def edges(values, *, log: bool) -> np.ndarray:
    """Return cell edges half way between sorted `values`, the outer cells as wide as their neighbours."""
    values = np.asarray(values, dtype=float)
    centre = np.log(values) if log else values
    if len(centre) == 1:
        half = np.array([0.5 * (np.log(10) if log else abs(centre[0]) or 1.0)])
        inner = np.concatenate([centre - half, centre + half])
    else:
        middle = (centre[1:] + centre[:-1]) / 2
        inner = np.concatenate([[2 * centre[0] - middle[0]], middle, [2 * centre[-1] - middle[-1]]])
    return np.exp(inner) if log else inner


BOUNDED = ("theta", "bk", "asr", "accuracy_clean", "nu", "half_beta")


def choose_scale(values, column: str, scale: str) -> tuple[str, int]:
    """Return (scale, sign): "log" with the sign that makes all values positive, "symlog", or "linear"."""
    if scale not in ("auto", "log", "symlog", "linear"):
        raise InvalidInput(f"the scale {scale!r} is not one of 'auto', 'log', 'symlog', 'linear'.")
    sign = one_sign(values)
    if scale == "auto":
        scale = "linear" if column in BOUNDED else "log" if sign else "symlog"
    if scale == "log" and not sign:
        raise InvalidInput(
            f"`{column}` has both signs or zeros, which a log scale would drop. Use 'symlog', or leave 'auto'."
        )
    return scale, (sign if scale == "log" else 1)


def set_scale(axes, which, scale, values) -> None:
    """Put the axis on the scale chosen for these values; to be called before anything is drawn."""
    if scale == "symlog":
        set_symlog(axes, which, values)
    elif scale == "log":
        set_log(axes, which, values)
