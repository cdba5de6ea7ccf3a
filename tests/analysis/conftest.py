"""What the tests of the analyses share."""

import importlib
import sys
from pathlib import Path

import pytest

ANALYSES = Path(__file__).resolve().parents[2] / "analyses"


@pytest.fixture(scope="module")
def analysis():
    """Return the function that imports an analysis, or a module they share, by its name."""
    sys.path.insert(0, str(ANALYSES))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(ANALYSES))
