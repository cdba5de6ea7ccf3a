"""The code in the README and the pages of docs/ runs as it stands, and what they point to is there.

Blocks of ``python`` run in order in one namespace a page; ``toml`` is written to grid.toml; of ``bash`` the lines that
call `learningcurves` run. A block that cannot run here says so in a comment above it, ``<!-- not run: reason -->``, and
is counted; so are the two commands of the README that the workflow runs in empty environments (``<!-- ci:... -->``).
"""

import re
import shlex
from pathlib import Path

import pytest

import learningcurves as lc
from learningcurves import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
NOT_RUN = {"README.md": 4, "docs/grids.md": 3}  # blocks marked so; in other pages every one runs
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page):
    """Return (language, text, whether it does not run here) of the blocks of a page, but for output and reports."""
    marks = ("not run: ", "ci:")
    found = [(m["language"], m["text"], (m["mark"] or "").startswith(marks)) for m in BLOCK.finditer(text_of(page))]
    return [block for block in found if block[0] not in ("text", "sh")]  # sh: the commands of finished studies


def run_commands(text):
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["learningcurves"]:
            assert cli.main(words[1:]) == 0, line
        else:
            assert not words, f"neither a command of the package nor marked as not run: {line}"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)])
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("altair")
    monkeypatch.chdir(tmp_path)
    # the other formats are drawn in the tests of the command line
    monkeypatch.setattr("learningcurves.commands.report.FORMATS", ("png",))
    namespace = {}
    for language, text, skipped in blocks_of(page):
        assert language in ("python", "bash", "toml"), f"{page}: a block of {language} is of no kind that runs"
        if skipped:
            continue
        if language == "python":
            exec(compile(text, page, "exec"), namespace)
        elif language == "toml":
            Path("grid.toml").write_text(text, encoding="utf-8")
            lc.load_spec("grid.toml")
        else:
            run_commands(text)


def test_the_first_result_of_the_readme_is_verified_and_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks_of("README.md")[2][1], "README.md", "exec"), {})
    difference = re.search(r"Verification: .* relative difference (\S+)", capsys.readouterr().out)
    assert float(difference[1]) < 1e-10  # as the README says
    assert Path("curve.png").stat().st_size > 10_000 and Path("curve.csv").is_file()


def test_blocks_that_do_not_run_are_counted():
    marked = {page: sum(skipped for _, _, skipped in blocks_of(page)) for page in PAGES}
    assert {page: n for page, n in marked.items() if n} == NOT_RUN


@pytest.mark.parametrize("page", [*PAGES, "benchmarks/README.md", "CHANGELOG.md"])
def test_links_and_pictures_of_a_page_are_there(page):
    for target in re.findall(r"\]\(([^)\s]+)", text_of(page)):
        name, _, anchor = target.partition("#")
        if target.startswith("https://"):
            continue
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in headings(path), target


@pytest.mark.parametrize("page", [*PAGES, "benchmarks/README.md", "CHANGELOG.md"])
def test_files_that_a_page_names_are_there(page):
    for name in re.findall(
        r"`?\b((?:analyses|figures|benchmarks|tests)/[\w./-]+\.(?:py|csv|md|toml))\b", text_of(page)
    ):
        assert (ROOT / name).exists(), name


def test_every_picture_is_shown_on_a_page():
    shown = {
        ((ROOT / page).parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s#]+)", text_of(page))
    }
    kept = {path.resolve() for path in (ROOT / "docs" / "images").rglob("*.png")}
    assert not kept - shown


def headings(path):
    """Return the anchors that GitHub gives the headings of a page."""
    lines = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S).splitlines()
    titles = [line.lstrip("#").strip().lower() for line in lines if re.match(r"#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def test_equations_and_sections_that_the_code_names_are_on_their_page():
    for path in sorted((ROOT / "learningcurves").rglob("*.py")):
        text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
        for page, kind, numbers in re.findall(r"(docs/[\w-]+\.md), (eq|section)s?\.? ([\w.()]+)", text):
            pattern = r"\\tag\{(\w+)\}" if kind == "eq" else r"^#+ ([\d.]+) "
            known = {number.rstrip(".") for number in re.findall(pattern, text_of(page), re.M)}
            assert numbers.strip("().") in known, f"{path.name}: {page}, {kind} {numbers}"
