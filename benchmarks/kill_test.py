"""Kill a running grid with SIGKILL at random moments: no finished cell may be lost, and the table must be the same.

    python benchmarks/kill_test.py --kills 50 --n-jobs 2

A reference grid runs undisturbed. Then the same grid runs in another folder; each time it is killed (the main process
alone, or with its workers, in turn) and started again: every fifth time at a random moment of its start, otherwise at a
random moment after its first new cell. A run that ends before it is killed gives a
table, which must equal the reference byte for byte; the next kill then starts over from an empty folder.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GRID = """
data = "digits:7-1"
learner = ["logistic", "ridge", "rbf_svm"]
reg = [0.1, 1.0, 10.0]
fraction = [0.05, 0.1]
repeat = 8
beta = [0.0, 0.1, 0.3, 1.0]
half_beta = false
trigger = { kind = "random_patch", size = [2, 3] }
"""
RUN = (
    "import sys; from learningcurves.grid import run_grid;"
    "run_grid(sys.argv[1], sys.argv[2], n_jobs=int(sys.argv[3]), progress=False)"
    ".to_csv(sys.argv[2] + '.csv', index=False)"
)


def start(grid, out, n_jobs):
    # a session of its own, so that a kill can reach the workers too
    command = [sys.executable, "-c", RUN, str(grid), str(out), str(n_jobs)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)


def finished(out):
    """Return the digest of every finished cell."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in Path(out, "cells").glob("*.json")}


def wait(process, out, patience, for_cell):
    """Wait for a random time (after the first new cell, if asked), and return whether the run is still going."""
    before = len(finished(out))
    while for_cell and process.poll() is None and len(finished(out)) == before:
        time.sleep(0.005)
    try:
        process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        return True
    return False


def kill_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # nothing of it is left


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="kill_test."))
    grid = folder / "grid.toml"
    grid.write_text(GRID)

    began = time.perf_counter()
    reference = start(grid, folder / "reference", options.n_jobs)
    assert reference.wait() == 0, reference.stderr.read().decode()
    duration = time.perf_counter() - began
    table = (folder / "reference.csv").read_bytes()
    print(f"reference: {len(finished(folder / 'reference'))} cells, {duration:.1f} s, {len(table):,} bytes of table")

    out, kills, lost, different, ends, damaged = folder / "killed", 0, 0, 0, 0, 0
    while kills < options.kills or ends == 0:
        # past the quota of kills the run is left alone, so that the last one ends
        in_start = kills % 5 == 4
        patience = moments.uniform(0.0, 0.5 * duration if in_start else 0.15 * duration)
        process = start(grid, out, options.n_jobs)
        if wait(process, out, patience if kills < options.kills else None, not in_start):
            before = finished(out)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            if kills % 2:
                kill_group(process)  # else the workers are orphans and must not do harm
            kills += 1
            after = finished(out)
            lost += sum(after.get(name) != digest for name, digest in before.items())
            print(f"kill {kills} after {patience:.2f} s: {len(after)} cells finished", flush=True)
            continue
        message = process.stderr.read().decode()
        assert process.returncode == 0, message
        damaged += "damaged" in message
        ends += 1
        same = Path(f"{out}.csv").read_bytes() == table
        different += not same
        print(f"run ended by itself after {kills} kills: table {'identical' if same else 'DIFFERENT'}", flush=True)
        if kills < options.kills:
            shutil.rmtree(out)
            ends = 0
    print(
        f"{kills} kills: {lost} finished cells lost or changed, {damaged} runs found damaged files, {different} tables differ"
    )
    shutil.rmtree(folder)
    return int(bool(lost or different or damaged))


if __name__ == "__main__":
    sys.exit(main())
