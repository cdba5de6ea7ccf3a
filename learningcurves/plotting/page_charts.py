"""The charts of the results page as Vega-Lite, without data: the page fills in what its controls select."""

from typing import Any

import numpy as np

from learningcurves.plotting.labels import SYMBOLS, axis_label, common_loss
from learningcurves.plotting.scales import choose_scale, linear_threshold, symlog_ticks
from learningcurves.plotting.style import INK, SEQUENTIAL, group_styles

PANEL = (470, 220)  # pixels: two panels with their axes stand side by side in 1160
ROW_TITLE = "__row__"  # the page puts the label of the axis in here that its reader picks for the rows of a map
_NOT_RUN = "#f0f0f0"
_CROSS = "M-1,-1L1,1M-1,1L1,-1"
_SHAPES = {  # matplotlib's markers as paths, which a chart and a legend button share
    "o": "M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0Z",
    "s": "M-0.9,-0.9L0.9,-0.9L0.9,0.9L-0.9,0.9Z",
    "^": "M0,-1.1L1.1,0.9L-1.1,0.9Z",
    "v": "M0,1.1L1.1,-0.9L-1.1,-0.9Z",
    ">": "M1.1,0L-0.9,1.1L-0.9,-1.1Z",
    "<": "M-1.1,0L0.9,1.1L0.9,-1.1Z",
    "D": "M0,-1.25L1.25,0L0,1.25L-1.25,0Z",
    "P": "M-0.4,-1.1H0.4V-0.4H1.1V0.4H0.4V1.1H-0.4V0.4H-1.1V-0.4H-0.4Z",
    "X": "M-1.1,-0.6L-0.6,-1.1L0,-0.5L0.6,-1.1L1.1,-0.6L0.5,0L1.1,0.6L0.6,1.1L0,0.5L-0.6,1.1L-1.1,0.6L-0.5,0Z",
    "h": "M0,-1.1L0.95,-0.55L0.95,0.55L0,1.1L-0.95,0.55L-0.95,-0.55Z",
}


def learner_looks(learners: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return the learners with their colour, marker (an SVG path) and dashes, the same as in every figure."""
    styles = group_styles([one["name"] for one in learners])
    looks = []
    for one in learners:
        style = styles[one["name"]]
        dash = [1, 0] if style.linestyle == "-" else [2.0 * v for v in style.linestyle[1]]
        looks.append(one | {"color": style.color, "shape": _SHAPES[style.marker], "dash": dash})
    return looks


def make_charts(frame, content: dict[str, Any]) -> dict[str, Any]:
    """Return the Vega-Lite charts of the page by name, and what the page must know of their scales.

    Parameters
    ----------
    frame : DataFrame
        The results table; asked for the unit of the loss alone.
    content : dict
        From `page_table.read_table`, its learners with their looks.

    Returns
    -------
    dict
        ``curves``, ``curves_spread`` (small beta spread out), ``scatter``, ``maps``: Vega-Lite; ``slope_sign``: what
        the page multiplies slopes by before drawing.
    """
    loss = common_loss(frame)
    slopes = np.array([v for v in content["cells"]["slope"] if v is not None])
    scale, sign = choose_scale(slopes, "slope", "auto")
    curves = _curves(content, loss)
    return {
        "curves": curves,
        "curves_spread": _spread(curves, content),
        "scatter": _scatter(content, loss, scale, sign * slopes, sign),
        "maps": _maps(content),
        "slope_sign": sign,
    }


def _curves(content, loss):
    import altair as alt

    # A stated domain keeps the axis in place while cells come and go.
    x: dict[str, Any] = {"title": axis_label("beta"), "scale": alt.Scale(domain=_beta_range(content), nice=False)}
    hover = [alt.Tooltip("beta:Q", title="β", format=".4~g"), *_hover(content, content["measures"])]
    charts, params = [], []
    for measure in [m for m in ("loss_triggered", "bk", "loss_clean", "accuracy_clean") if m in content["measures"]]:
        ends = [alt.param(name=f"{measure}_{end}", value=v) for end, v in (("low", 0), ("high", 1))]
        params += ends
        low, high = (alt.ExprRef(p.name) for p in ends)
        y = alt.Y(
            f"{measure}:Q",
            title=axis_label(measure, loss),
            scale=alt.Scale(domain=[low, high], nice=False, zero=False),
            axis=alt.Axis(tickCount=6),
        )
        good = alt.Chart(alt.NamedData("rows")).transform_filter("datum.ok").encode(alt.X("beta:Q", **x), y)
        look = good.encode(color=_by_learner(content, "color"), detail="cell:N")
        lines = look.mark_line(strokeWidth=1.6).encode(strokeDash=_by_learner(content, "dash"))
        points = look.mark_point(filled=True, size=26, opacity=1).encode(shape=_by_learner(content, "shape"))
        # A point is small to hit: an unseen disc around it answers to the pointer.
        discs = good.mark_circle(size=170, opacity=0).encode(tooltip=hover)
        lost = (
            alt.Chart(alt.NamedData("rows"))
            .transform_filter("!datum.ok && isValid(datum.beta)")
            .mark_point(shape=_CROSS, size=60, color=INK, strokeWidth=2)
            .encode(alt.X("beta:Q", **x), y=alt.value(PANEL[1] - 7), tooltip=[*hover[:1], *_failure(content)])
        )
        charts.append(alt.layer(lines, points, discs, lost).properties(width=PANEL[0], height=PANEL[1]))
    chart = alt.concat(*charts, columns=2, spacing=26).add_params(*params)
    return _finish(chart, "Losses and accuracies over the weight beta of the backdoor samples, one line a cell")


def _beta_range(content) -> list[float]:
    beta = [b for b in content["rows"]["beta"] if b is not None] or [0.0]
    return [min(beta), max(beta) if max(beta) > min(beta) else min(beta) + 1.0]


def _spread(chart, content):
    """Return the chart of the curves with its axes of beta linear near 0 and logarithmic beyond."""
    low, high = _beta_range(content)
    step = linear_threshold([b for b in content["rows"]["beta"] if b is not None])
    ticks = symlog_ticks(low, high, step).tolist()

    def change(part):
        if isinstance(part, list):
            return [change(one) for one in part]
        if not isinstance(part, dict):
            return part
        part = {key: change(value) for key, value in part.items()}
        if part.get("x", {}).get("field") == "beta":
            part["x"] |= {"axis": {"values": ticks, "format": "~g"}}
            part["x"]["scale"] |= {"type": "symlog", "constant": step}
        return part

    return change(chart)


def _slope_axis(loss, scale, slopes, sign) -> dict[str, Any]:
    """Title, scale and ticks of the axis of slopes."""
    import altair as alt

    low, high = (float(slopes.min()), float(slopes.max())) if len(slopes) else (0.0, 1.0)
    # Stated domains keep the axes in place while learners come and go.
    domain = [low, high] if low < high else [low / 2, 2 * low] if scale == "log" else [low - 0.5, high + 0.5]
    x: dict[str, Any] = {"title": axis_label("-slope" if sign < 0 else "slope", loss)}
    if scale == "log":
        powers = 10.0 ** np.arange(np.floor(np.log10(domain[0])), np.ceil(np.log10(domain[1])) + 1)
        several = len(powers) > 3  # fewer powers than that label too little: leave the ticks to the chart
        domain = [powers[0], powers[-1]] if several else domain
        x["scale"] = alt.Scale(type="log", domain=domain, nice=False, padding=8)
        ticks: dict[str, Any] = (
            {"values": powers[:: -(-len(powers) // 9)].tolist()} if several else {"labelOverlap": True}
        )
        x["axis"] = alt.Axis(format="~g", **ticks)
    elif scale == "symlog":
        step = linear_threshold(slopes)
        x["scale"] = alt.Scale(type="symlog", constant=step, domain=domain, nice=False, padding=8)
        x["axis"] = alt.Axis(values=symlog_ticks(low, high, step).tolist(), format="~g", labelOverlap=True)
    else:
        x["scale"] = alt.Scale(domain=domain, nice=False, padding=8)
    return x


def _reg_colour(content):
    """Colour of a mark by its lambda."""
    import altair as alt

    regs = [v for axis in content["axes"] if axis["name"] == "reg" for v in axis["values"] if not isinstance(v, str)]
    log = len(regs) > 1 and min(regs) > 0 and max(regs) > 10 * min(regs)
    marks: dict[str, Any] = {"values": regs} if len(regs) <= 8 else {"tickCount": 6}
    return alt.Color(
        "reg:Q",
        title="λ",
        scale=alt.Scale(
            type="log" if log else "linear",
            scheme=SEQUENTIAL,
            domain=[regs[0], regs[-1]] if len(regs) > 1 else [regs[0] / 2, 2 * regs[0]] if regs[0] else [0, 1],
        ),
        legend=alt.Legend(format="~g", gradientLength=200, **marks),
    )


def _scatter(content, loss, scale, slopes, sign):
    import altair as alt

    x, color = _slope_axis(loss, scale, slopes, sign), _reg_colour(content)
    measures = [m for m in content["measures"] if m not in ("slope", "theta")]
    hover = [
        alt.Tooltip("slope:Q", title="slope at β", format=".4~g"),
        alt.Tooltip("beta_low:Q", title="... with β", format=".4~g"),
        *([alt.Tooltip("theta:Q", title="θ there", format=".4~g")] if "theta" in content["measures"] else []),
        alt.Tooltip("beta_high:Q", title="below, at β", format=".4~g"),
        *_hover(content, measures),
    ]
    charts, height = [], PANEL[1] + 80
    for measure in [m for m in ("bk", "accuracy_clean") if m in content["measures"]]:
        base = alt.Chart(alt.NamedData("cells"))
        known = [v for v in content["cells"][measure] if v is not None]
        ends = [0.0, 1.0] if measure == "bk" or not known else [min(known), max(max(known), min(known) + 0.01)]
        y = alt.Y(f"{measure}:Q", title=axis_label(measure), scale=alt.Scale(domain=ends, nice=False, padding=8))
        points = (
            base.transform_filter(f"isValid(datum.x) && isValid(datum.{measure})")
            .mark_point(filled=True, size=60, opacity=0.9, stroke=INK, strokeWidth=0.5)
            .encode(alt.X("x:Q", **x), y, color=color, shape=_by_learner(content, "shape"), tooltip=hover)
        )
        layers = [points]
        for has_x, has_y in ((False, True), (True, False), (False, False)):  # what is missing lies on the edge
            which = f"isValid(datum.x) == {str(has_x).lower()} && isValid(datum.{measure}) == {str(has_y).lower()}"
            lost = base.transform_filter(which).mark_point(shape=_CROSS, size=60, color=INK, strokeWidth=2)
            place_x = alt.X("x:Q", **x) if has_x else alt.value(6)
            place_y = y if has_y else alt.value(height - 6)
            layers.append(lost.encode(x=place_x, y=place_y, tooltip=_failure(content)))
        charts.append(alt.layer(*layers).properties(width=PANEL[0] - 30, height=height))
    chart = alt.concat(*charts, columns=2, spacing=26)
    return _finish(
        chart, "Slope of the triggered test loss against backdoor accuracy and clean accuracy, a mark a cell"
    )


def _maps(content):
    import altair as alt

    charts = []
    for measure in [m for m in ("bk", "accuracy_clean") if m in content["measures"]]:
        entries = {"learner_label": "learner", "here": "cell", "beta_text": "β", "bk_text": axis_label("bk")}
        if "accuracy_clean" in content["measures"]:
            entries["accuracy_clean_text"] = axis_label("accuracy_clean")
        entries |= {"held": "at", "runs": "cells", "message": "failed"}
        hover = [alt.Tooltip(f"{field}:N", title=title) for field, title in entries.items()]
        axis = alt.Axis(labelAngle=0, labelOverlap=True)
        x = alt.X("map_x:O", title=axis_label("reg"), sort=alt.EncodingSortField("xi"), axis=axis)
        y = alt.Y("map_y:O", title=ROW_TITLE, sort=alt.EncodingSortField("yi", order="descending"))
        base = alt.Chart(alt.NamedData("map")).encode(x, y, tooltip=hover)
        domain = [0, 1] if measure == "bk" else alt.Undefined
        color = alt.Color(
            f"{measure}:Q",
            title=axis_label(measure),
            scale=alt.Scale(scheme=SEQUENTIAL, domain=domain, zero=False),
            legend=alt.Legend(orient="top", gradientLength=PANEL[0] - 60, direction="horizontal", titleLimit=300),
        )
        rects = base.transform_filter(f"isValid(datum.{measure})").mark_rect().encode(color=color)
        lost = base.transform_filter("datum.n_failed > 0")
        halo, cross = (
            lost.mark_point(shape=_CROSS, size=110, strokeWidth=w, stroke=c) for w, c in ((5, "white"), (2, INK))
        )
        charts.append(alt.layer(rects, halo, cross).properties(width=PANEL[0] - 30, height=PANEL[1] + 40))
    chart = alt.concat(*charts, columns=2, spacing=40).resolve_scale(color="independent")
    return _finish(
        chart, "Maps of backdoor accuracy and clean accuracy over regularisation and a second axis", _NOT_RUN
    )


def _by_learner(content, look):
    import altair as alt

    kind = {"color": alt.Color, "dash": alt.StrokeDash, "shape": alt.Shape}[look]
    scale = alt.Scale(
        domain=[one["label"] for one in content["learners"]], range=[o[look] for o in content["learners"]]
    )
    return kind("learner_label:N", scale=scale, legend=None)


def _hover(content, measures):
    """Return tooltip entries: the cell's parameters, then its numbers."""
    import altair as alt

    named = [alt.Tooltip(f"t{i}:N", title=_title(axis["name"])) for i, axis in enumerate(content["axes"])]
    return named + [alt.Tooltip(f"{m}:Q", title=_title(m), format=".4~g") for m in measures]


def _failure(content):
    import altair as alt

    return [alt.Tooltip("message:N", title="failed"), *_hover(content, [])]


def _title(name):
    text = SYMBOLS.get(name, name.replace("_", " "))
    return f"{text} column" if text in ("title", "image") else text  # the tooltip reads these two as commands


def _finish(chart, description, fill=None) -> dict[str, Any]:
    font = "DejaVu Sans, Verdana, sans-serif"
    chart = chart.configure(font=font, background="white", padding=6)
    chart = chart.configure_view(stroke="#999999", strokeWidth=0.6, fill=fill)
    chart = chart.configure_axis(
        gridColor="#eeeeee", domainColor="#666666", tickColor="#666666", labelFontSize=11, titleFontSize=12,
        titleFontWeight="normal", labelColor=INK, titleColor=INK,
    )  # fmt: skip
    chart = chart.configure_legend(labelFontSize=11, titleFontSize=12, titleFontWeight="normal", labelColor=INK)
    return chart.properties(description=description).to_dict()
