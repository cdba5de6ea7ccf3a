"""The results page opened, clicked and pointed at in headless Chromium with the network off."""

import json
import shutil

import pandas as pd
import pytest
from page_helpers import make_table, with_failures

from learningcurves.plotting.page import write_page

for package in ("altair", "vl_convert"):
    pytest.importorskip(package, reason="needs the extra `page`")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, from the extra `test`")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver", allow_module_level=True)

OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1200,1000",
)  # fmt: skip
CONTROLS = """
    return [...document.querySelectorAll("input, select, button")].map((e) => e.labels && e.labels.length
        ? e.labels[0].innerText : e.innerText).map((text) => text.trim().length > 0)
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return the address of a page with three learners, one of them with gamma, and two failed cells."""
    table = with_failures(make_table())
    rbf = [table[table["learner"] == "logistic"].assign(learner="rbf_svm", gamma=g) for g in (0.01, 0.1)]
    frame = pd.concat([table.assign(gamma=float("nan")), *rbf])
    return write_page(frame, tmp_path_factory.mktemp("page") / "page.html", title="Digits, 7 against 1").as_uri()


@pytest.fixture
def opened(browser, page):
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page)
    wait_for_painting(browser, 0)
    yield browser
    assert browser.get_log("browser") == []  # no error, and no warning either
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked and all(url == page or url.startswith(("data:", "blob:")) for url in asked)


def painted(browser):
    return int(browser.execute_script("return document.body.dataset.painted || 0"))


def wait_for_painting(browser, before):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20, poll_frequency=0.05).until(lambda b: painted(b) > before)


def after(browser, action):
    before = painted(browser)
    action()
    wait_for_painting(browser, before)


def slide(browser, name, place):
    script = """
        const slider = document.getElementById("slider-" + arguments[0]);
        slider.value = arguments[1];
        slider.dispatchEvent(new Event("input", { bubbles: true }));
    """
    after(browser, lambda: browser.execute_script(script, name, place))


def choose(browser, name, text):
    from selenium.webdriver.support.ui import Select

    after(browser, lambda: Select(browser.find_element("id", f"select-{name}")).select_by_visible_text(text))


def drawn(browser, chart, mark):
    """Return the outlines and colours of the marks of one kind in a chart."""
    script = """
        return [...document.querySelectorAll(`#${arguments[0]} g.role-mark.mark-${arguments[1]} > path`)]
            .map((p) => [p.getAttribute("d"), p.getAttribute("transform"), p.getAttribute("stroke"), p.getAttribute("fill")])
    """
    return browser.execute_script(script, chart, mark)


def text(browser, place):
    return browser.find_element("id", place).text


def point_at(browser, element):
    """Put the pointer on an element and return what the tooltip says."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", element)
    ActionChains(browser).move_to_element(element).perform()
    found = "return document.querySelector('#vg-tooltip-element.visible')?.innerText || ''"
    return WebDriverWait(browser, 5, poll_frequency=0.05).until(lambda b: b.execute_script(found))


def test_sliders_move_the_curves(opened):
    assert "4 cells" not in text(opened, "curves-note") and "3 cells at" in text(opened, "curves-note")
    assert len(drawn(opened, "curves", "line")) == 4 * 3  # four panels, three learners
    seen = [drawn(opened, "curves", "line")]
    for name, place, said in (("reg", 1, "λ = 1,"), ("fraction", 1, "p = 0.1,"), ("reg", 3, "λ = 100,")):
        slide(opened, name, place)
        assert said in text(opened, "curves-note")
        seen.append(drawn(opened, "curves", "line"))
        assert seen[-1] != seen[-2]
    assert opened.find_element("id", "slider-reg").get_attribute("aria-valuetext") == "100"
    slide(opened, "reg", 0)
    slide(opened, "fraction", 0)
    assert drawn(opened, "curves", "line") == seen[0]  # back to the same picture


def test_axes_can_be_fitted_and_spread(opened):
    first = drawn(opened, "curves", "line")
    slide(opened, "reg", 3)
    shared = drawn(opened, "curves", "line")
    after(opened, opened.find_element("id", "same-axes").click)
    assert drawn(opened, "curves", "line") != shared
    after(opened, opened.find_element("id", "spread").click)
    after(opened, opened.find_element("id", "same-axes").click)
    slide(opened, "reg", 0)
    spread = drawn(opened, "curves", "line")
    assert len(spread) == len(first) and spread != first
    after(opened, opened.find_element("id", "spread").click)
    assert drawn(opened, "curves", "line") == first


def test_legend_hides_and_shows_a_learner(opened):
    lines, marks = drawn(opened, "curves", "line"), drawn(opened, "scatter", "symbol")
    ridge = next(b for b in opened.find_elements("css selector", "#legend button") if b.text == "ridge")
    color = ridge.find_element("css selector", "line").get_attribute("stroke")
    assert sum(line[2] == color for line in lines) == 4
    after(opened, ridge.click)
    assert ridge.get_attribute("aria-pressed") == "false"
    assert drawn(opened, "curves", "line") == [line for line in lines if line[2] != color]
    assert len(drawn(opened, "scatter", "symbol")) < len(marks)
    for button in opened.find_elements("css selector", "#legend button"):
        if button != ridge:
            after(opened, button.click)
    assert drawn(opened, "curves", "line") == [] and text(opened, "curves-note").startswith("0 cells")
    for button in opened.find_elements("css selector", "#legend button"):
        after(opened, button.click)
    assert drawn(opened, "curves", "line") == lines and drawn(opened, "scatter", "symbol") == marks


def test_pointing_shows_the_cell(opened):
    disc = opened.find_elements("css selector", "#curves g.mark-symbol > path[opacity='0']")[1]
    said = point_at(opened, disc)
    for word in ("digits:7-1", "λ", "0.1", "p", "0.05", "β", "loss triggered", "slope"):
        assert word in said
    said = point_at(opened, opened.find_element("css selector", "#scatter g.mark-symbol > path"))
    assert "slope" in said and "bk" in said and "λ" in said
    said = point_at(opened, opened.find_element("css selector", "#map g.role-mark.mark-rect > path"))
    assert "λ = " in said and "p = " in said and "1 finished, 0 failed" in said


def test_failed_cells_are_crosses_with_their_message(opened):
    ink = "#333333"
    choose(opened, "map-learner", "ridge")
    crosses = [p for p in opened.find_elements("css selector", f"#map g.mark-symbol > path[stroke='{ink}']")]
    assert len(crosses) == 2  # one in each map
    said = point_at(opened, crosses[0])
    assert "no answer <script>" in said and "λ = 10, p = 0.1" in said
    lost = opened.find_elements("css selector", f"#scatter g.mark-symbol > path[fill='transparent'][stroke='{ink}']")
    assert len(lost) == 2 * 3  # one without anything, two (one a learner) without accuracies, in two panels
    assert "no answer <script>" in "".join(point_at(opened, cross) for cross in lost)
    assert "step limit reached" in text(opened, "curves-note")
    said = point_at(opened, opened.find_element("css selector", f"#curves g.mark-symbol > path[stroke='{ink}']"))
    assert "step limit reached" in said
    assert opened.title == "Digits, 7 against 1"  # no script of the table ran


def test_map_follows_learner_rows_and_beta(opened):
    assert len(drawn(opened, "map", "rect")) == 2 * 7  # a cell failed at the largest beta
    colors = [rect[3] for rect in drawn(opened, "map", "rect")]
    slide(opened, "map-beta", 0)
    assert len(drawn(opened, "map", "rect")) == 2 * 8
    assert [rect[3] for rect in drawn(opened, "map", "rect")] != colors
    assert text(opened, "map-note").startswith("logistic at β = 0.")
    choose(opened, "map-learner", "RBF SVM")
    choose(opened, "map-row", "kernel parameter γ")
    assert "kernel parameter γ" in text(opened, "map") and "p = 0.05" in text(opened, "map-note")
    choose(opened, "map-learner", "logistic")
    assert "poisoned fraction p" in text(opened, "map")


def test_fits_the_window_and_names_its_controls(opened):
    assert opened.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert opened.execute_script(
        "return [...document.querySelectorAll('.wide')].every((e) => e.scrollWidth <= e.clientWidth + 1)"
    )
    assert all(opened.execute_script(CONTROLS))
    for chart in ("curves", "scatter", "map"):
        drawing = opened.find_element("css selector", f"#{chart} svg [aria-label], #{chart} [aria-label]")
        assert drawing.get_attribute("aria-label")


def test_odd_tables_are_drawn(browser, tmp_path):
    """One row, no axis for a map; cells that end at betas of their own; slopes of both signs."""
    table = make_table()
    one = table.loc[[0], ["learner", "reg", "beta", "loss_triggered", "bk", "slope"]]
    own = table.assign(beta=table["beta"] * (1 + table["reg"]), slope=table["slope"] * (-1) ** (table["reg"] > 1))
    browser.get_log("browser")
    said = {}
    for name, frame in {"one": one, "own": own}.items():
        browser.get(write_page(frame, tmp_path / f"{name}.html").as_uri())
        wait_for_painting(browser, 0)
        said[name] = text(browser, "map-note")
        assert browser.get_log("browser") == []
    assert said["one"].startswith("No map") and "β = largest of each cell" in said["own"]


def test_the_verb_page_opens_and_moves(browser, tmp_path, monkeypatch):
    """From a grid file to a page that works, as a user calls it."""
    from learningcurves.cli import main

    monkeypatch.chdir(tmp_path)
    trigger = 'trigger = { kind = "random_patch", size = 2 }'
    axes = 'learner = ["logistic", "ridge"]\nreg = [0.1, 10.0]\nfraction = [0.05, 0.1]\nbeta = [0.0, 1.0]'
    (tmp_path / "grid.toml").write_text(f'data = "digits:7-1"\n{axes}\nhalf_beta = false\n{trigger}\n')
    assert main(["run", "grid.toml", "--out", "cells"]) == 0
    assert main(["page", "cells", "--out", "page.html", "--title", "Mine"]) == 0
    browser.get_log("browser")
    browser.get((tmp_path / "page.html").as_uri())
    wait_for_painting(browser, 0)
    first = drawn(browser, "curves", "line")
    slide(browser, "reg", 1)
    assert browser.title == "Mine" and "λ = 10," in text(browser, "curves-note")
    assert len(first) == 4 * 2 and drawn(browser, "curves", "line") != first
    said = point_at(browser, browser.find_element("css selector", "#scatter g.mark-symbol > path"))
    assert "digits:7-1" in said and "slope" in said
    assert browser.get_log("browser") == []
