"""The analyses of SODA, at a size that runs in seconds: what must hold at any size."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

FOLDER = str(Path(__file__).resolve().parents[2] / "analyses")
DATA = "digits-thick"


@pytest.fixture(scope="module")
def soda(tmp_path_factory):
    """Return the studies' common module, with few images and networks kept in a temporary folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        module = importlib.import_module("soda_study")
        patch.setenv(module.FOLDER, str(tmp_path_factory.mktemp("networks")))
        patch.setenv(module.SMALL, "1")
        patch.setitem(module.SIZES, DATA, {**module.SIZES[DATA], "n": 500, "width": 4, "epochs": 2})
        yield module
        for name in [n for n in sys.modules if n == "study" or n.startswith("soda_") or n[:2].isdigit()]:
            del sys.modules[name]


def measured(soda, name, kinds, **axes):
    """Return the module of a study and the rows of its small cells."""
    study = importlib.import_module(name)
    cells = soda.cells_of([DATA], kinds, **axes)
    return study, pd.DataFrame([{**cell, **row} for cell in cells for row in study.measure(cell)])


def test_detection_and_repairs(soda, monkeypatch):
    study = importlib.import_module("21_soda_detection")
    monkeypatch.setattr(study, "REPAIRS", ("last_layer", "last layer anew"))
    study, table = measured(soda, "21_soda_detection", ("oversampled", "clean"))
    tables = study.tables
    summary = tables.detection(table)
    flagged = summary[(summary.event == "flagged") & (summary.offset == "constant")]
    assert flagged.n.tolist() == [1, 1] and ((summary.low <= summary.share) & (summary.share <= summary.high)).all()
    repairs = tables.repairs(table)
    assert set(repairs.repair) == {"none", "last_layer", "last layer anew"} and repairs.networks.tolist() == [1, 1, 1]
    assert ((repairs[["acc", "sr", "ra"]] >= 0) & (repairs[["acc", "sr", "ra"]] <= 1)).all(axis=None)
    assert len(study.finding(summary)) == 4 and study.draw(table).axes
    assert len(tables.attacks(table)) == 2 and tables.slopes(table).network.tolist()[0] == "oversampled"


def test_natural_features_and_what_is_left_out(soda, monkeypatch):
    images = importlib.import_module("soda_images")
    y = np.array([2, 0, 1, 0, 2, 1, 0, 1])
    assert images.balanced(y, 2).tolist() == [0, 1, 2, 3, 4, 5]
    X = np.zeros((2, 3, 8, 8))
    X[0, 1] = 1  # green all over
    assert images.greenness(X)[0] > images.greenness(X)[1] and images.blueness(X)[0] < 0
    # the victim's samples next to those with the feature are left out, and no others
    monkeypatch.setitem(soda.SIZES, DATA, {**soda.SIZES[DATA], "unclear": 0.2})
    soda.images.cache_clear()
    found, (has, _) = soda.images(DATA, 0)
    soda.images.cache_clear()
    monkeypatch.setitem(soda.SIZES, DATA, {**soda.SIZES[DATA], "unclear": 0})
    whole, (had, _) = soda.images(DATA, 0)
    victim, _ = soda.pair_of(DATA, 0)
    n = (whole.y_train == victim).sum()
    assert 0.1 * n < len(whole.y_train) - len(found.y_train) < 0.3 * n and has.sum() == had.sum()
    assert (found.y_train != victim).sum() == (whole.y_train != victim).sum()


def test_network_on_features(soda):
    network = importlib.import_module("soda_images").head_network(20, 5, 6)
    X, y = np.random.default_rng(0).random((60, 20, 1, 1)).astype(np.float32), np.arange(60) % 5
    report = importlib.import_module("learningcurves").detect_soda(network.eval(), (X, y))
    assert report.method == "closed form" and len(report.offset) == 6


def test_tables_of_comparisons(soda):
    tables = importlib.import_module("soda_tables")
    rng = np.random.default_rng(0)
    rows = []
    for kind, index in (("oversampled", -5.0), ("clean", -1.0)):
        for seed in range(12):
            cell = {"data": "d", "kind": kind, "seed": seed, "status": "ok"}
            noise = 0.1 * rng.normal()
            rows.append({**cell, "row": "network", "slope": 2 * index + noise, "slope_relative": 1.0, "sr": 1.0})
            rows.append(
                {**cell, "row": "detection", "offset": "constant", "index": index + noise, "index_true": index + noise}
            )
        rows.append({**cell, "row": "repair", "repair": "code", "slope": 4 * rows[0]["slope"]})
    table = pd.DataFrame([r for r in rows if r["row"] != "repair" or r["kind"] == "oversampled"])
    apart = tables.separation(table).set_index(["kind", "against"]).loc["oversampled", "clean"]
    assert apart.auc == 1 and apart.low == 1 and apart.p == pytest.approx(2 / 2704156)  # 24 choose 12
    ratio = tables.slopes(table).iloc[0]
    assert ratio.ratio == pytest.approx(5, rel=0.1) and ratio.larger == 12 and ratio.low < 5.2 and ratio.high > 4.8
    after = tables.slopes(table).set_index("against").loc["oversampled, none"]
    assert after.network == "oversampled, code" and after.networks == 1 and after.ratio == pytest.approx(4, rel=0.1)
    found = tables.link(table)
    assert set(found["with"]) == {"-slope"} and (found.rank_correlation == 1).all()
    assert tables.auc(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.5


def test_neurons(soda):
    study, table = measured(soda, "22_soda_neurons", ("oversampled",))
    assert set(table.score) == {"causal", "leave_one_out", "influence"}
    assert len(study.by_score(table)) == 6
    # what is guilty depends on activations alone
    assert table.groupby("threshold").n_guilty.nunique().tolist() == [1, 1]


def test_the_last_layer_and_the_map_before_the_average_are_one(soda):
    study, table = measured(soda, "23_soda_layers", ("oversampled",), layer=("last", "blocks", "blocks.1"))
    rows = study.by_layer(table).set_index("layer")
    assert rows.loc["last", "index"] == pytest.approx(rows.loc["blocks", "index"], rel=1e-3)
    assert rows.loc["blocks", "method"] == "closed form" and rows.loc["blocks.1", "method"] == "intervention"


def test_rare_classes(soda):
    study, table = measured(soda, "24_soda_imbalance", ("clean",), rare=(1.0, 0.1))
    assert table.n_rare.iloc[-1] == round(0.1 * table.n_rare.iloc[0])
    assert len(study.by_share(table)) == 4


def test_the_penalty_costs_accuracy(soda):
    study, table = measured(soda, "25_soda_adaptive", ("oversampled",), rho=(0.0, 0.9))
    rows = study.by_rho(table)
    assert rows.acc.iloc[-1] < rows.acc.iloc[0]


def test_only_the_constant_offset_feels_a_rescaling(soda, monkeypatch):
    study = importlib.import_module("26_soda_rescaling")
    monkeypatch.setattr(study, "DRAWS", 3)
    study, table = measured(soda, "26_soda_rescaling", ("oversampled",))
    width = table.groupby(["offset", "how"]).index_true.agg(np.ptp)
    assert width["spread"].max() < 1e-2 and width["constant", "all"] > 0.1
    assert table.output_change.max() < 1e-4 and len(study.spread(table)) == 6


def test_semantic_and_stamped(soda, monkeypatch):
    study = importlib.import_module("27_soda_stamps")
    monkeypatch.setattr(study, "STEPS", 15)
    study, table = measured(soda, "27_soda_stamps", ("stamped",))
    assert set(table.detector) == {"SODA", "Neural Cleanse"} and len(study.by_detector(table)) == 4


def test_defences_and_what_they_hide(soda, monkeypatch):
    study = importlib.import_module("28_soda_defences")
    monkeypatch.setattr(study, "RELEARN", (0, study.FEW))
    monkeypatch.setattr(study, "CLEANSE_STEPS", 10)
    axes = {"defence": ("none", "last layer anew", "SODA last layer", "never attacked")}
    study, table = measured(soda, "28_soda_defences", ("badnets",), **axes)
    summary = study.by_defence(table.assign(status="ok"))
    rows = summary.set_index("defence")
    assert rows.asr["none"] > 0.5 > rows.asr["never attacked"] and rows.again.between(0, 1).all()
    # the head alone is changed: its slope, taken anew over the same features, is not
    assert rows.slope["last layer anew"] == rows.slope["none"] == rows.slope_before["none"]
    assert study.draw(table.assign(status="ok"), DATA).axes and len(study.finding(summary)) == 4
    words = importlib.import_module("soda_words")
    assert words.hidden(lambda name: summary).startswith(f"- **{DATA}, badnets** (1 network")


def test_what_the_other_tables_say(soda):
    others = importlib.import_module("soda_other_words")
    rows = [
        {"data": "d", "offset": "constant", "rho": rho, "acc": 0.9, "sr": 1.0, "index_true": index, "target_right": 1.0}
        | {"flagged": 0.5, "networks": 3}
        for rho, index in ((0.0, -4.0), (0.9, 1.0))
    ]
    said = others.adaptive(pd.DataFrame(rows))
    assert said.startswith("- **d**: rho 0: index of the target -4.00") and "(means of 3 networks)" in said
    rare = [
        {
            "data": "d",
            "offset": "constant",
            "rare": share,
            "rare_is_first": first,
            "flagged": 0.5,
            "flagged_calibrated": 0,
        }
        | {"networks": 3}
        for share, first in ((1.0, 0.1), (0.03, 0.7))
    ]
    assert "with 3% of its samples the class is first in 0.70 of the networks (with all 0.10)" in others.imbalance(
        pd.DataFrame(rare)
    )


def test_poisons_needed(soda):
    study = importlib.import_module("28_soda_defences")
    words = importlib.import_module("soda_words")

    def group(*asr):
        return pd.DataFrame({"count": (0, 5, 20, 50), "asr_hits": np.multiply(asr, 100), "asr_n": 100})

    assert study.needed(group(0.0, 0.6, 0.4, 0.9)) == 50  # it must stay
    assert study.needed(group(0.9, 0.9, 0.9, 0.9)) == 0 and np.isnan(study.needed(group(0.0, 0.1, 0.2, 0.4)))
    row = pd.Series({"poisons_to_relearn": 20.0, "poisons_least": 5.0, "poisons_most": np.inf, "most_tried": 50})
    assert words.poisons(row) == "20 (5 to > 50)"


def test_the_page_has_a_place_for_every_table(soda):
    page = importlib.import_module("soda_page")
    text = page.PAGE.read_text()
    for name in page.PARTS:
        assert text.count(f"<!-- {name} -->\n") == 1
    assert page.soda.markdown(page.null()) in text


def test_the_readme_quotes_the_table_of_detection():
    root = Path(FOLDER).parent
    rows = pd.read_csv(root / "analyses" / "tables" / "soda_detection.csv")
    rows = rows[(rows.offset == "constant") & (rows.event == "target_right")]
    sums = rows.groupby("kind")[["hits", "n"]].sum()
    hits, n = sums.hits, set(sums.loc[["oversampled", "flip", "over-represented"]].n)
    readme = " ".join((root / "README.md").read_text(encoding="utf-8").split())
    assert len(n) == 1
    assert (
        f"(first in {hits.oversampled} of {n.pop()} networks), not one that was merely relabelled ({hits.flip} of"
        in readme
    )
    assert f"nearly as often ({hits['over-represented']} of" in readme
