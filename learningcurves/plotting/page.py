"""One HTML file from a results table: curves with sliders, slope against backdoor accuracy, maps. Works offline."""

import html
import json
from importlib.resources import files
from pathlib import Path

from learningcurves.errors import InvalidInput
from learningcurves.plotting.labels import SYMBOLS, axis_label
from learningcurves.plotting.page_charts import ROW_TITLE, learner_looks, make_charts
from learningcurves.plotting.page_table import read_table
from learningcurves.storage import write_atomic


def write_page(frame, path, *, title: str | None = None) -> Path:
    """Write one HTML file that shows a results table and needs nothing outside itself.

    It holds learning curves with sliders over `reg` and `fraction`, the slope against the accuracies, and maps of the
    accuracies over (`reg`, `fraction`) or (`reg`, `gamma`). Pointing at a mark shows its cell; cells that failed are
    crosses with their message. The scripts that draw (about 0.9 MB) are in the file, and a policy in it forbids the
    browser to load anything. The same table gives the same bytes.

    Parameters
    ----------
    frame : DataFrame
        A row per cell and beta, as `collect` makes it. Needed: learner, reg, beta, loss_triggered, bk, slope; drawn
        if present: loss_clean, accuracy_clean, fraction, gamma, repeat, data, extractor, n_train, trigger columns,
        and more; status and message say which rows failed. Tables above 6 000 cells or 100 000 rows are thinned, with a note.
    path : str or Path
        Written whole or not at all.
    title : str, optional
        Heading of the page.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InvalidInput
        If the table is empty, lacks a column or holds a row twice, or if altair and vl-convert-python are not
        installed (the extra ``learningcurves[page]``).
    """
    scripts = _scripts()
    content = read_table(frame)
    content["learners"] = learner_looks(content["learners"])
    for axis in content["axes"]:
        axis["symbol"] = SYMBOLS.get(axis["name"], axis["name"].replace("_", " "))
        axis["label"] = axis_label(axis["name"])
    content["charts"] = make_charts(frame, content)
    content["row_title"] = ROW_TITLE
    title = "Backdoor learning curves" if title is None else str(title)
    page = _fill(
        _text("page.html"),
        TITLE=html.escape(title),
        STYLE=_text("page.css"),
        HEADING=html.escape(title),
        HEADER=_header(content),
        FAILURES=_failures(content),
        LIBRARIES=scripts,
        CONTENT=_json(content),
        SCRIPT=_text("page.js"),
    )
    return write_atomic(path, page.encode())


def _scripts() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, from the extra."""
    try:
        import altair
        import vl_convert
    except ImportError as error:
        raise InvalidInput(
            f"`write_page` needs altair and vl-convert-python ({error}): pip install 'learningcurves[page]'."
        ) from None
    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    return bundle.replace("</script", r"<\/script")


def _text(name: str) -> str:
    return files("learningcurves.plotting").joinpath("page_files", name).read_text(encoding="utf-8")


def _fill(template: str, **parts: str) -> str:
    """Put the parts in place of ``@NAME@``, each once, so that nothing inside a part is taken for a place."""
    result = []
    for name, part in parts.items():
        before, template = template.split(f"@{name}@")
        result += [before, part]
    return "".join([*result, template])


def _json(content) -> str:
    """Return JSON that an HTML parser reads as one text, whatever tags the table's strings hold."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _header(content) -> str:
    counts = content["counts"]
    facts = [
        ("cells", f"{counts['cells']:,}"),
        ("failed", f"{counts['failed']:,}"),
        ("rows", f"{counts['rows']:,}"),
        *((axis["label"], _values(axis)) for axis in content["axes"]),
        *content["versions"].items(),
    ]
    rows = "".join(f"<tr><th scope=row>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts)
    notes = "".join(f"<p class=note>{html.escape(note)}</p>" for note in content["notes"])
    return f"<table class=facts>{rows}</table>{notes}"


def _values(axis) -> str:
    texts = axis["texts"]
    return ", ".join(texts) if len(texts) <= 12 else f"{len(texts)} values, {texts[0]} to {texts[-1]}"


def _failures(content) -> str:
    """Return the failed cells as an HTML table."""
    failures, total = content.pop("failures"), content["counts"]["failed"]
    if not failures:
        return "<p>No cell failed.</p>"
    head = "".join(f"<th scope=col>{html.escape(axis['symbol'])}</th>" for axis in content["axes"])
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in failures)
    note = f"<p>The first {len(failures)} of {total:,}.</p>" if len(failures) < total else ""
    region = "<div class=tall tabindex=0 role=region aria-label='Failed cells'>"
    return f"{region}<table class=list><tr>{head}<th scope=col>reason</th></tr>{rows}</table></div>{note}"
