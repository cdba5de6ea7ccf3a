"""Measuring: every case in a process of its own, the cases of a comparison in turn, medians of what they used.

A case is a script called with ``--child NAME ...``. It times its parts with `timed`, and prints one line of JSON.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import date
from importlib.metadata import PackageNotFoundError, version

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Clock:
    """CPU and wall seconds of named parts of a child process."""

    def __init__(self):
        self.parts = {}

    @contextmanager
    def timed(self, name):
        """Add the time of a block to part `name`."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        spent = self.parts.setdefault(name, {"cpu": 0.0, "wall": 0.0})
        spent["cpu"] += time.process_time() - cpu
        spent["wall"] += time.perf_counter() - wall


def peak_memory():
    """Largest resident size of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def report(clock, **facts):
    """Print what a child measured; its last words."""
    print(json.dumps({"parts": clock.parts, "peak": peak_memory(), **facts}))


def run(script, arguments, *, threads=1, timeout=None, python=sys.executable):
    """Run one child and return what it reported."""
    environment = dict(os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)))
    command = [python, script, "--child", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def in_turn(script, cases, *, threads=1, repeats=3):
    """Run the cases A B A B ... and return per case the median of every part, the peak, and the last facts.

    Parameters
    ----------
    cases : mapping name -> arguments
    """
    found = {name: [] for name in cases}
    for _ in range(repeats):
        for name, arguments in cases.items():
            found[name].append(run(script, arguments, threads=threads))
    return {name: _median(results) for name, results in found.items()}


def _median(results):
    parts = {
        part: {unit: statistics.median(r["parts"][part][unit] for r in results) for unit in ("cpu", "wall")}
        for part in results[0]["parts"]
    }
    return {**results[-1], "parts": parts, "peak": statistics.median(r["peak"] for r in results)}


def total(result, unit="cpu", parts=None):
    """Sum of the parts of one result."""
    return sum(spent[unit] for name, spent in result["parts"].items() if parts is None or name in parts)


def machine():
    """Return the machine and the versions in words."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    names = ("numpy", "scipy", "scikit-learn", "pandas")
    versions = ", ".join(f"{name} {_version(name)}" for name in names)
    return f"{date.today()}, {model}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def table(header, rows):
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def exponent(x, y):
    """Slope of log y over log x by least squares."""
    from math import log

    a, b = [log(v) for v in x], [log(v) for v in y]
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    top = sum((p - mean_a) * (q - mean_b) for p, q in zip(a, b, strict=True))
    return top / sum((p - mean_a) ** 2 for p in a)
