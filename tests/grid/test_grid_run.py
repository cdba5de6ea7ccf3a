import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import grid_helpers
import numpy as np
import pandas as pd
import pytest
from grid_helpers import TOML, counted, dying, failing, failing_together, fake, grid, out_of_disk

from learningcurves.errors import InvalidInput
from learningcurves.grid import MATHS_VERSION, collect, run_grid
from learningcurves.grid import store as store_module
from learningcurves.grid.backends import WorkersLost
from learningcurves.grid.store import CorruptCell, StorageFailed, Store


def run(out, table=None, measure=fake, **options):
    return run_grid(table or grid(), out, progress=False, measure=measure, **options)


def files(out):
    return sorted(Path(out, "cells").glob("*.json"))


@pytest.fixture
def count(tmp_path, monkeypatch):
    """How many tasks were measured since the last call."""
    folder = tmp_path / "count"
    folder.mkdir()
    monkeypatch.setenv("GRID_COUNT", str(folder))

    def since():
        n = len(list(folder.iterdir()))
        for path in folder.iterdir():
            path.unlink()
        return n

    return since


def test_a_row_per_cell_and_beta_in_the_order_of_the_grid(tmp_path):
    frame = run(tmp_path)
    assert len(frame) == 24 * 3 and len(files(tmp_path)) == 24
    assert frame["reg"].tolist()[:9] == [0.1] * 3 + [1.0] * 3 + [10.0] * 3
    assert frame["beta"].tolist()[:3] == [0.0, 0.5, 1.0]
    assert (frame["status"] == "ok").all() and frame["slope"].isna().all() and np.isinf(frame["breakpoint"]).all()
    assert (frame["loss_clean"] == 0.1 + 0.2).all()  # every bit survives the file
    assert frame["trigger"].unique().tolist() == ["random_patch size=2"] and frame["trigger_size"].unique() == [2]
    pd.testing.assert_frame_equal(frame, collect(tmp_path))
    assert "seconds" in collect(tmp_path, timing=True)


def test_running_again_computes_nothing_and_a_lost_cell_alone(tmp_path, count):
    first = run(tmp_path, measure=counted)
    assert count() == 8
    run(tmp_path, measure=counted)
    assert count() == 0
    before = {p: p.read_bytes() for p in files(tmp_path)}
    files(tmp_path)[5].unlink()
    pd.testing.assert_frame_equal(first, run(tmp_path, measure=counted))
    assert count() == 1
    assert sum(p.read_bytes() != old for p, old in before.items()) <= 1


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"checksum": "0", "id": "x"}'])
def test_a_damaged_cell_is_an_error_to_read_and_computed_again(tmp_path, damage):
    first = run(tmp_path)
    path = files(tmp_path)[3]
    path.write_bytes(damage)
    with pytest.raises(CorruptCell, match=rf"{path.name}.*damaged.*Run the grid again"):
        collect(tmp_path)
    with pytest.warns(UserWarning, match="1 damaged cell files are computed again"):
        again = run(tmp_path)
    pd.testing.assert_frame_equal(first, again)


def test_one_changed_digit_is_noticed(tmp_path):
    run(tmp_path)
    path = files(tmp_path)[0]
    path.write_text(path.read_text().replace('"bk_floor": 0.0', '"bk_floor": 0.5'))
    with pytest.raises(CorruptCell, match="checksum"):
        collect(tmp_path)
    other = files(tmp_path)[1]
    other.write_bytes(files(tmp_path)[2].read_bytes())
    with pytest.raises(CorruptCell, match="it holds the cell"):
        Store(tmp_path).read(other.stem)


def test_a_failing_cell_is_a_row_and_spares_its_neighbours(tmp_path):
    frame = run(tmp_path, measure=failing)
    bad = frame[frame["status"] != "ok"]
    assert len(bad) == 8 and (bad["reg"] == 1.0).all() and bad["beta"].isna().all()
    assert set(bad["message"]) == {"ZeroDivisionError: no minimum at reg = 1"}
    assert bad["n_train"].tolist() == [100] * 8  # as its neighbours
    pd.testing.assert_frame_equal(frame, run(tmp_path))  # failures are kept ...
    assert (run(tmp_path, retry_failed=True)["status"] == "ok").all()  # ... unless asked


def test_the_reason_for_solving_cells_alone_is_kept(tmp_path):
    with pytest.warns(UserWarning, match=r"20 cells were solved one by one.*MemoryError: no room for 3 reg"):
        frame = run(tmp_path, measure=failing_together)
    bad = frame[frame["status"] != "ok"]
    assert set(bad["message"]) == {
        "ZeroDivisionError: no minimum at reg = 1 (all reg of the task together: failed: MemoryError: no room for 3 reg)"
    }
    records = [json.loads(path.read_text()) for path in files(tmp_path)]
    assert [r["together"] for r in records if "rows" in r] == ["failed: MemoryError: no room for 3 reg"] * 20
    assert len(records) == 24 and len(bad) == 4


def test_the_same_table_whatever_the_workers(tmp_path):
    tables = [run(tmp_path / str(n), n_jobs=n, backend=b) for n, b in ((1, "loky"), (2, "loky"), (2, "threading"))]
    assert len({t.to_csv() for t in tables}) == 1


def test_other_settings_or_mathematics_are_refused(tmp_path, monkeypatch):
    run(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.json")}
    with pytest.raises(InvalidInput, match=r"reg: \[0.1, 1.0, 10.0\] there, \[0.1\] here"):
        run(tmp_path, grid(reg=[0.1]))
    with pytest.raises(InvalidInput, match="other settings"):
        run(tmp_path, grid(reg=[0.1]), dry_run=True)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*.json")}
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "maths_version": 0}))
    with pytest.raises(InvalidInput, match=f"version of the mathematics: 0 there, {MATHS_VERSION} here"):
        run(tmp_path)
    assert run(tmp_path / "b", grid(root="/a")).equals(run(tmp_path / "b", grid(root="/b")))  # places are no settings


def test_a_changed_file_of_data_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = ("clean", "backdoor", "test", "triggered")

    def write(seed):
        X = np.random.default_rng(seed).normal(size=(20, 5))
        np.savez("mine.npz", **{f"X_{p}": X for p in parts}, **{f"y_{p}": np.arange(20) % 2 for p in parts})

    table = {"data": "npz:mine.npz", "learner": ["ridge", "rbf_svm"], "reg": [1.0], "beta": [0.0, 1.0]}
    write(0)
    frame = run_grid(table, "out", progress=False)
    assert len(frame) == 4 and (frame["status"] == "ok").all() and frame["n_train"].unique() == [40]
    write(1)
    with pytest.raises(InvalidInput, match="content of npz:mine.npz"):
        run_grid(table, "out", progress=False)


def test_the_manifest_says_what_made_the_numbers(tmp_path):
    (tmp_path / "grid.toml").write_text(TOML)
    for _ in range(2):
        run(tmp_path / "out", tmp_path / "grid.toml")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["maths_version"] == MATHS_VERSION and manifest["grid"] == TOML and len(manifest["runs"]) == 2
    assert {"packages", "blas", "platform", "command", "threads_per_worker", "n_jobs"} <= set(manifest["runs"][0])
    assert manifest["runs"][0]["packages"]["numpy"] == np.__version__
    assert set(manifest["seeds"]) == {"draw=random seed=0 repeat=0", "draw=random seed=0 repeat=1"}


def test_a_full_disk_keeps_what_is_finished(tmp_path, monkeypatch):
    first = run(tmp_path / "whole")
    real, written = store_module.write_atomic, []

    def full(path, content):
        if len(written) == 7:
            raise OSError(28, "No space left on device")
        written.append(path)
        return real(path, content)

    monkeypatch.setattr(store_module, "write_atomic", full)
    with pytest.raises(StorageFailed, match="No space left on device. 6 finished cells are kept"):
        run(tmp_path / "out")
    monkeypatch.setattr(store_module, "write_atomic", real)
    assert len(files(tmp_path / "out")) == 6
    pd.testing.assert_frame_equal(first, run(tmp_path / "out"))


def test_trouble_of_the_machine_is_no_failure_of_a_cell(tmp_path):
    with pytest.raises(StorageFailed, match="No space left.*mend it and run again"):
        run(tmp_path, measure=out_of_disk)
    assert not files(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot be written: Not a directory"):
        run(tmp_path / "file" / "out")
    with pytest.raises(InvalidInput, match="no manifest.json"):
        collect(tmp_path)


def test_a_dead_worker_is_said_and_loses_nothing(tmp_path):
    run(tmp_path)
    for path in files(tmp_path)[:3]:
        path.unlink()
    with pytest.raises(WorkersLost, match="21 finished cells are kept"):
        run(tmp_path, measure=dying, n_jobs=2)
    assert len(files(tmp_path)) == 21


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_jobs": 0}, "n_jobs=0"),
        ({"backend": "spark"}, "is not one of"),
        ({"scheduler": "tcp://x"}, "belongs to a cluster"),
        ({"backend": "dask"}, "needs `scheduler`"),
    ],
)
def test_bad_workers_are_refused(tmp_path, options, words):
    with pytest.raises(InvalidInput, match=words):
        run(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("n_jobs", "kind"), [(1, signal.SIGINT), (2, signal.SIGINT), (2, signal.SIGKILL)])
def test_a_run_that_is_stopped_goes_on(tmp_path, n_jobs, kind):
    """Stop a run after its first cells; all finished cells stay, and the rest makes the same table."""
    code = (
        "import grid_helpers as h; from learningcurves.grid import run_grid\n"
        f"run_grid(h.grid(repeat=8), {str(tmp_path / 'out')!r}, n_jobs={n_jobs}, progress=False, measure=h.slow)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(grid_helpers.__file__).parent)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(files(tmp_path / "out")) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    before = {p: p.read_bytes() for p in files(tmp_path / "out")}
    process.send_signal(kind)
    errors = process.communicate(timeout=30)[1].decode()
    assert 3 <= len(files(tmp_path / "out")) < 96, errors
    assert all(p.read_bytes() == old for p, old in before.items())
    assert run(tmp_path / "out", grid(repeat=8)).equals(run(tmp_path / "whole", grid(repeat=8)))


def test_a_dry_run_writes_nothing(tmp_path):
    plan = run(tmp_path / "out", dry_run=True, n_jobs=2)
    assert (plan.n_cells, plan.n_tasks, plan.n_done) == (24, 8, 0) and not (tmp_path / "out").exists()
    assert plan.seconds > 0 and 2**24 < plan.peak_bytes < 2**34
    assert "24 cells in 8 tasks" in repr(plan) and [p.learner for p in plan.pilots] == ["logistic", "ridge"]
    run(tmp_path / "out")
    assert run(tmp_path / "out", dry_run=True).n_done == 24
    assert "failed: ZeroDivisionError" in repr(run(tmp_path / "x", dry_run=True, measure=failing))


def test_progress_says_what_is_left(tmp_path, capfd):
    run_grid(grid(), tmp_path, measure=failing)
    text = capfd.readouterr().err
    assert "finished=24" in text and "failed=8" in text and "remaining=0" in text
    assert "24 cells: 0 found, 24 computed, 8 FAILED" in text


def test_the_rest_of_a_killed_write_is_cleared(tmp_path):
    run(tmp_path)
    rest = tmp_path / "cells" / ".x.json.abc.part"
    rest.write_text("half")
    os.utime(rest, (0, 0))
    run(tmp_path)
    assert not rest.exists()


def test_collect_reads_a_folder_of_another_place(tmp_path):
    first = run(tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    pd.testing.assert_frame_equal(first, collect(tmp_path / "b"))
