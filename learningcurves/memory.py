"""How much memory a problem needs and how much there is: asked before any work, so that nothing dies half way."""

import os
from pathlib import Path

from learningcurves.errors import InvalidInput

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available_memory() -> int | None:
    """Bytes that this process can still take, or None where the system does not say.

    The smallest of what Linux calls available (free, and caches that can be given back), what a container's limit
    leaves, and the machine's memory.
    """
    bounds = [_sysconf_bytes(), _meminfo_bytes(), *(_cgroup_bytes(*paths) for paths in _CGROUPS)]
    known = [b for b in bounds if b is not None]
    return min(known) if known else None


def check_memory(needed: float, name: str, what: str, way_out: str) -> None:
    """Raise InvalidInput if `needed` bytes are more than there are.

    Parameters
    ----------
    needed : float
        Estimate in bytes.
    name : str
        The argument that asks for so much.
    what : str
        What takes the memory, with its sizes.
    way_out : str
        What to do instead.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise InvalidInput(
            f"`{name}` needs about {format_bytes(needed)} of memory ({what}) where {format_bytes(available)} are "
            f"available. {way_out}"
        )


def format_bytes(n: float) -> str:
    """Return 1234567890 as ``"1.2 GB"``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:,.1f} TB"


def _sysconf_bytes():
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _meminfo_bytes():
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _cgroup_bytes(limit, used):
    try:
        return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None
