"""One stream of random numbers per named use, all from one root seed.

Adding a value to one axis never changes the draws of another: each stream is keyed by the names and values of
exactly the axes it may depend on.
"""

import zlib

import numpy as np

from learningcurves.checks import check_seed


def stream(seed: int, **axes) -> np.random.SeedSequence:
    """Return the seed sequence of one named use, e.g. ``stream(0, use="poison", repeat=3)``."""
    # a NumPy scalar names the same stream as the Python number (their repr differ)
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in axes.items()}
    words = [zlib.crc32(f"{name}={value!r}".encode()) for name, value in sorted(plain.items())]
    return np.random.SeedSequence([check_seed(seed), *words])


def generator(seed: int, **axes) -> np.random.Generator:
    """Return a NumPy generator on the named stream."""
    return np.random.default_rng(stream(seed, **axes))


def integer(seed: int, **axes) -> int:
    """Return one 32-bit integer of the named stream, for libraries that take an int seed."""
    return int(stream(seed, **axes).generate_state(1)[0])
