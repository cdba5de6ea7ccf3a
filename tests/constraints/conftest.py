"""The attribute table of CelebA, where it is at hand."""

import numpy as np
import pytest

from learningcurves.data import readers
from learningcurves.errors import InvalidInput


@pytest.fixture(scope="session")
def celeba_labels():
    """Return all attribute vectors of CelebA, boolean (202599, 40)."""
    try:
        folder = readers.find_folder("celeba", ("celeba",), lambda place: (place / "attributes.npz").is_file())
    except InvalidInput:
        pytest.skip("needs CelebA's attribute table: set LEARNINGCURVES_DATA to the data folder")
    with np.load(folder / "attributes.npz") as table:
        return np.unpackbits(table["attr_bits"], axis=1)[:, :40].astype(bool)
