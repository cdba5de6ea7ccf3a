"""The analyses of attacks: they run small, draw their committed tables, and the page says what the tables say."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT / "analyses" / "tables"


def test_an_analysis_runs_small(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "analyses/09_attack_counts.py"),
        "--small",
        "--tables",
        "t",
        "--out",
        "results/x",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    table = pd.read_csv(tmp_path / "t/attack_counts.csv")
    assert len(table) == 8 and ((table.asr_low <= table.asr) & (table.asr <= table.asr_high)).all()
    assert list(tmp_path.glob("results/x-small/images/*.png"))


def test_the_table_of_perturbations_is_drawn(analysis):
    study = analysis("11_clean_label")
    summary = study.by_eps(pd.read_csv(TABLES / "clean_label_networks.csv"))
    assert summary.pgd_only.between(0, 1).all() and study.draw(summary).axes
    assert len(study.finding(summary)) == len(summary)


def test_the_table_of_defences_is_drawn(analysis):
    study = analysis("12_defences")
    names = ("defences_networks", "defences_numbers", "defences_alpha")
    table, numbers, alphas = (pd.read_csv(TABLES / f"{name}.csv") for name in names)
    summary = study.by_defence(table, numbers)
    assert set(summary.defence) == set(study.defences.DEFENCES) and summary.asr.between(0, 1).all()
    none = summary[summary.defence == "none"]
    assert (none.slope == none.slope_before).all() and none.slope_before.lt(0).all()
    pruned = summary[summary.oracle_asr.notna()]
    assert set(pruned.defence) == {"anp", "anp by number"}
    # what an oracle may choose is never worse than pruning nothing
    before = none.set_index(["data", "attack"]).asr
    assert (pruned.oracle_asr <= before[pruned.set_index(["data", "attack"]).index].to_numpy() + 1e-3).all()
    for data in summary.data.unique():
        shown = [study.draw_rates(summary, data), study.draw(table, data), study.draw_anp(table, numbers, alphas, data)]
        assert all(figure.axes for figure in shown)


def test_networks_are_trained_with_the_shifts_that_the_page_names(analysis):
    study, page = analysis("attack_study"), analysis("attack_page")
    for data, size in study.SIZES.items():
        augment = study.training(data)["augment"]
        assert (augment.pixels if augment else None) == size.get("shift")
        assert (f"shifts of up to {size.get('shift')} pixels" in page.sizes(data)) == ("shift" in size)
    assert study.training("cifar10", shift=0)["augment"] is None


def test_the_page_says_what_the_tables_say(analysis):
    page = analysis("make_attacks")
    assert page.page() == page.PAGE.read_text(encoding="utf-8"), "run analyses/make_attacks.py"


def test_the_readme_quotes_the_table_of_counts():
    related = pd.read_csv(TABLES / "attack_counts_relations.csv").set_index(["data", "attack"])
    row = related.loc[("mnist", "all")]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"ranks {row.n:.0f} networks of four attacks on MNIST" in readme
    assert f"(Spearman {row.rank_slope:.2f}; the number of poisons alone {row.rank_count:.2f})" in readme
