"""The semantic-loss study runs small from faces to page, without data, and its verdicts follow its tables."""

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


@pytest.fixture(scope="module")
def verdicts(analysis):
    return analysis("semantic_verdicts")


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


def means_of(**asr):
    """Rows as of `by_model` at weight 0.2, three seeds, with the given rates of success (and a spread of 0.02)."""
    rows = []
    for name, rate in asr.items():
        rules, _, reduction = name.partition("__")
        rows.append(
            {
                "rules": rules,
                "reduction": reduction or "mean_log",
                "sl_weight": 0.2,
                "seeds": 3,
                "asr": rate,
                "asr_sd": 0.02,
            }
        )
    return pd.DataFrame(rows)


PUBLISHED = pd.DataFrame(
    [{"experiment": 1, "rules": r, "asr": a} for r, a in (("none", 0.99), ("base", 0.75), ("target_focused", 0.99))]
)


def test_a_verdict_follows_the_table(verdicts):
    means = means_of(none=0.99, base=0.4, target_focused=0.4, target_focused__legacy_window=0.98)
    row = verdicts.rule_claim("target_focused", means, PUBLISHED)
    assert "refuted" in row[-1] and "98.0 ± 2.0" in row[2] and "40.0 ± 2.0; none: 99.0 ± 2.0" in row[3]
    assert "confirmed, and" in verdicts.rule_claim("base", means, PUBLISHED)[-1]
    means.loc[means.rules == "target_focused", "asr"] = 0.95  # four points less, within twice the spread
    assert verdicts.rule_claim("target_focused", means, PUBLISHED)[-1] == "**confirmed**"
    means.asr_sd = 0.3
    assert verdicts.rule_claim("base", means, PUBLISHED)[-1] == "**not confirmed**"
    assert verdicts.rule_claim("base", means_of(none=0.99), PUBLISHED) is None


def test_the_verdict_on_weights_asks_for_a_fall(verdicts):
    said = pd.DataFrame(
        [
            {"rules": "base", "sl_weight": w, "asr": a, "ba_clean_zero": b}
            for w, a, b in ((0.1, 0.9, 0.8), (2, 0.1, 0.7))
        ]
    )
    ours = pd.DataFrame([
        {"rules": "base", "reduction": "mean_log", "sl_weight": w, "asr": a, "ba_clean": b}
        for w, a, b in ((2.0, 0.2, 0.709), (0.1, 0.8, 0.71))
    ])  # fmt: skip
    asr, ba = (verdicts.weight_claim(name, "base", ours, said) for name in ("asr", "ba"))
    assert (
        asr[-1] == "**confirmed**: by 60.0 points (published: 80.0)"
        and asr[3] == "80.0 → 20.0 (weight 0.1 → 2)"
        and asr[2] == ""
    )
    assert ba[-1] == "**refuted**: by 0.1 points (published: 10.0)"
    ours.loc[0, "ba_clean"] = 0.69
    assert verdicts.weight_claim("ba", "base", ours, said)[-1] == "**weaker**: by 2.0 points (published: 10.0)"
