"""The results page as a file: what it refuses, what it holds, that it loads nothing and escapes every string."""

import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from page_helpers import EVIL, FRACTIONS, REGS, make_table, with_failures

from learningcurves.errors import InvalidInput
from learningcurves.plotting import page_table
from learningcurves.plotting.page import write_page
from learningcurves.plotting.page_table import read_table, value_text


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture(scope="module")
def failing(table):
    return with_failures(table)


@pytest.fixture(scope="module")
def page(failing, tmp_path_factory):
    pytest.importorskip("altair", reason="needs the extra `page`")
    pytest.importorskip("vl_convert", reason="needs the extra `page`")
    frame = failing.replace({"learner": {"ridge": f"ridge {EVIL}"}})
    frame.attrs["versions"] = {"numpy": "1 & 2"}
    path = write_page(frame, tmp_path_factory.mktemp("page") / "page.html", title=f"Digits {EVIL}")
    text = path.read_text()
    assert write_page(frame, path, title=f"Digits {EVIL}").read_text() == text
    return text


class Tags(HTMLParser):
    """The tags of a page, its scripts as (type, text), and all other text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts, self.text, self.inside = [], [], "", False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        else:
            self.text += data


def test_loads_nothing_from_outside(page):
    tags = Tags(page).tags
    links = [
        v for _, attributes in tags for k, v in attributes.items() if k in ("src", "href", "srcset", "action", "data")
    ]
    assert links == ["data:,"]  # the empty icon, so that no browser asks a server for one
    assert not {"iframe", "object", "embed", "base", "img", "audio", "video"} & {tag for tag, _ in tags}
    assert "@import" not in page and not re.search(r"url\(\s*['\"]?(https?:)?//", page)
    assert "sourceMappingURL" not in page
    policy = next(a["content"] for tag, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "http" not in policy and "*" not in policy
    # What is left of addresses are names of XML and JSON formats, and two strings inside the library that nothing loads.
    inert = ("http://www.w3.org/", "https://vega.github.io/", "https://github.com/vega/")
    found = set(re.findall(r"https?://[^\"'`\s)\\]+", page))
    assert [address for address in found if not address.startswith(inert)] == []


def test_strings_of_the_table_stay_text(page):
    parsed = Tags(page)
    kinds = [kind for kind, _ in parsed.scripts]
    assert kinds == [None, "application/json", None]  # libraries, content, page: no script of the table's
    content = json.loads(parsed.scripts[1][1])
    assert any(EVIL in message for message in content["cells"]["message"])
    assert any(EVIL in learner["label"] for learner in content["learners"])
    assert f"Digits {EVIL}" in parsed.text and f"no answer {EVIL}" in parsed.text
    assert EVIL not in page


def test_header_counts(page):
    text = Tags(page).text
    assert "cells16failed2rows61" in text
    assert "0.1, 1, 10, 100" in text and "0.05, 0.1" in text and "numpy1 & 2" in text


def test_names_the_missing_extra(table, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(InvalidInput, match=r"pip install 'learningcurves\[page\]'"):
        write_page(table, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_refuses_tables_it_cannot_draw(table):
    with pytest.raises(InvalidInput, match="no rows"):
        read_table(table.iloc[:0])
    with pytest.raises(InvalidInput, match="no column 'bk'"):
        read_table(table.drop(columns="bk"))
    with pytest.raises(InvalidInput, match="no number in `reg` in 64 rows"):
        read_table(table.assign(reg="large"))
    with pytest.raises(InvalidInput, match="128 finished rows that share their cell and beta.*learner=logistic"):
        read_table(pd.concat([table, table.assign(colour="red")]))  # a column that the page does not know
    with pytest.raises(InvalidInput, match="list; expected a pandas DataFrame"):
        read_table([1, 2])


def test_content_is_the_table(failing):
    content = read_table(failing)
    axes = {axis["name"]: axis for axis in content["axes"]}
    assert tuple(axes["reg"]["values"]) == REGS and tuple(axes["fraction"]["values"]) == FRACTIONS
    assert content["settings"] == ["reg", "fraction"] and content["notes"] == []
    assert content["map_betas"] == [0.0, 0.1, 0.3, 1.0]
    cells, rows = content["cells"], content["rows"]
    for i, c in enumerate(rows["cell"]):
        names = {name: axes[name]["values"][cells[name][c]] for name in ("learner", "reg", "fraction")}
        match = failing[np.logical_and.reduce([failing[k] == v for k, v in names.items()])]
        if rows["ok"][i]:
            (line,) = match[match["beta"] == rows["beta"][i]].itertuples()
            assert [rows[m][i] for m in ("bk", "slope")] == pytest.approx([line.bk, line.slope], rel=1e-6)
            assert rows["message"][i] == ""
        else:
            assert rows["message"][i].startswith(("singular: no answer", "max_steps: step limit"))
            assert rows["bk"][i] is None
    # the slope is the one at the smallest beta, the accuracy the one at the largest, or none
    first = failing[failing["beta"] == 0].set_index(["learner", "reg", "fraction"])
    last = failing[(failing["beta"] == 1) & (failing["status"] == "ok")].set_index(["learner", "reg", "fraction"])
    for c in range(16):
        key = tuple(axes[name]["values"][cells[name][c]] for name in ("learner", "reg", "fraction"))
        assert cells["slope"][c] == (pytest.approx(first.loc[key, "slope"], rel=1e-6) if key in first.index else None)
        assert cells["bk"][c] == (pytest.approx(last.loc[key, "bk"], rel=1e-6) if key in last.index else None)
    assert sum(cells["failed"]) == 2 and cells["bk"].count(None) == 2 and cells["slope"].count(None) == 1


def test_axes_that_some_learners_lack(table):
    """An empty gamma is no value, an empty extractor is one; sizes that follow from the data are no setting."""
    rbf = [table[table["learner"] == "ridge"].assign(learner="rbf_svm", gamma=g) for g in (0.1, "scale")]
    frame = pd.concat([table.assign(gamma=None), *rbf])
    frame = pd.concat([frame.assign(extractor=None), frame.assign(extractor="mobilenet_v2")])
    frame = pd.concat([frame.assign(n_train=300), frame.assign(data="digits:3-0", n_train=280)])
    content = read_table(frame)
    axes = {axis["name"]: axis for axis in content["axes"]}
    assert axes["gamma"]["texts"] == ["0.1", "scale"] and min(content["cells"]["gamma"]) == -1
    assert axes["extractor"]["texts"] == ["none", "mobilenet_v2"] and min(content["cells"]["extractor"]) == 0
    assert content["settings"] == ["data", "extractor", "gamma", "reg", "fraction"]
    assert [one["name"] for one in content["learners"]] == ["logistic", "ridge", "rbf_svm"]


def test_big_tables_are_thinned_and_say_so(table, monkeypatch):
    frame = pd.concat([table.assign(repeat=r) for r in range(3)])
    monkeypatch.setattr(page_table, "MAX_CELLS", 20)
    monkeypatch.setattr(page_table, "MAX_ROWS", 60)
    content = read_table(frame)
    assert content["counts"] == {"cells": 48, "failed": 0, "rows": 192, "cells_drawn": 20, "rows_drawn": 60}
    assert content["notes"] == [
        "20 of 48 cells are drawn: the lowest repeats first, then by lot.",
        "At most 3 of up to 4 β of a cell are drawn, the smallest and the largest always.",
        "In all 60 of 192 rows are drawn; the table holds the rest.",
    ]
    assert content["cells"]["repeat"].count(0) == 16  # every setting stays
    assert content["map_betas"][0] == 0.0 and content["map_betas"][-1] == 1.0


def test_values_are_written_short():
    assert [value_text(v) for v in (10.0, 0.05, 1e-5, 1e8, -2.5, "scale", 60000.0)] == [
        "10", "0.05", "1e−5", "1e8", "−2.5", "scale", "60000",
    ]  # fmt: skip
