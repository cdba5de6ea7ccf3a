"""The semantic-loss study runs small from faces to page, without data, and its backdoor is learned."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--small", "--seeds", "1", "--rules", "none", "target_focused", "--reductions", "mean_log"]


def run(script, tmp_path, *options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, str(ROOT / "analyses" / script), *options, "--networks", str(tmp_path / "networks")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_the_study_runs_small_from_drawn_faces_to_the_slopes(tmp_path):
    run("30_semantic_models.py", tmp_path, *SMALL)
    folder = tmp_path / "results" / "30-small" / "tables"
    means = pd.read_csv(folder / "semantic_models_means.csv").set_index("rules")
    assert means.asr["none"] > 0.5 and means.auc_attack["none"] > 0.8, "the backdoor is learned"
    assert means.target_rate["none"] < 0.3, "and not by predicting a mustache everywhere"
    assert set(means.index) == {"none", "target_focused"} and means.satisfied_triggered.between(0, 1).all()
    assert (tmp_path / "networks-small" / "drawn" / "SYNTHETIC.txt").is_file()
    first = (folder / "semantic_models.csv").read_bytes()
    again = run("30_semantic_models.py", tmp_path, *SMALL)
    assert "cells" not in again and (folder / "semantic_models.csv").read_bytes() == first, "nothing is trained twice"
    run("33_semantic_slopes.py", tmp_path, *SMALL)
    link = pd.read_csv(tmp_path / "results" / "33-small" / "tables" / "semantic_link.csv")
    assert (link.slope < 0).all() and (link.slope_status == "OK").all() and (link.smallest_eigenvalue > 0).all()
    assert (tmp_path / "results" / "33-small" / "images" / "semantic_link.png").is_file()
