"""A real Dask cluster of processes on this machine, with a worker killed in mid-run."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from grid_helpers import grid

from learningcurves.errors import InvalidInput
from learningcurves.grid import run_grid

pytestmark = [
    # the cluster's own shutdown leaves sockets and event loops to the garbage collector
    pytest.mark.filterwarnings("default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::UserWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as found:
        yield found


def test_a_cluster_gives_the_same_table_though_a_worker_is_killed(cluster, tmp_path):
    table = grid(learner=["logistic", "ridge", "rbf_svm"], repeat=6)
    expected = run_grid(table, tmp_path / "here", progress=False)
    pids = [worker.pid for worker in cluster.workers.values()]
    out, killed = tmp_path / "there", []

    def kill_one():
        while len(list(Path(out, "cells").glob("*.json"))) < 5:
            time.sleep(0.01)
        os.kill(pids[0], signal.SIGKILL)
        killed.append(len(list(Path(out, "cells").glob("*.json"))))

    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    address = cluster.scheduler_address
    frame = run_grid(table, out, progress=False, backend="dask", scheduler=address)
    thread.join(timeout=10)
    assert killed and killed[0] < 108, "the worker was killed after the run"
    assert frame.to_csv() == expected.to_csv() and (frame["status"] == "ok").all()


def test_a_scheduler_that_does_not_answer(tmp_path):
    pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    with pytest.raises(InvalidInput, match="no Dask scheduler answers at `scheduler='tcp://127.0.0.1:1'`"):
        run_grid(grid(), tmp_path / "out", progress=False, backend="dask", scheduler="tcp://127.0.0.1:1")
    assert not (tmp_path / "out" / "cells").exists() or not list((tmp_path / "out" / "cells").iterdir())


def test_ray_gives_the_same_table(tmp_path):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    expected = run_grid(grid(), tmp_path / "here", progress=False)
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        frame = run_grid(grid(), tmp_path / "there", progress=False, backend="ray", n_jobs=2)
    finally:
        ray.shutdown()
    assert frame.to_csv() == expected.to_csv()
