"""The code in the pages of docs/ runs."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {path.name: re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S) for path in DOCS.glob("*.md")}


@pytest.mark.parametrize("page", sorted(name for name, blocks in PAGES.items() if blocks))
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(PAGES[page]), page, "exec"), {})


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_links_and_pictures_of_a_page_are_there(page):
    for target in re.findall(r"\]\(([^)#\s]+)", (DOCS / page).read_text()):
        assert target.startswith("https://") or (DOCS / target).exists(), target
