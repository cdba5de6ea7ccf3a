import json

import numpy as np
import pytest
from grid_helpers import GRID, TOML, grid

from learningcurves.errors import InvalidInput
from learningcurves.grid import load_spec
from learningcurves.grid.check import check_against_data
from learningcurves.grid.keys import KEYS
from learningcurves.grid.problems import seeds_of, trigger_of
from learningcurves.grid.spec import cell_id, from_settings
from learningcurves.grid.trigger_axis import label


def test_a_file_and_a_mapping_give_the_same_cells(tmp_path):
    (tmp_path / "grid.toml").write_text(TOML)
    cells = list(load_spec(tmp_path / "grid.toml").cells())
    assert cells == list(load_spec(GRID).cells())
    assert len(cells) == len(load_spec(GRID)) == 24
    assert [c["reg"] for c in cells[:4]] == [0.1, 1.0, 10.0, 0.1]
    assert cells[0]["penalize_intercept"] == 1.0 and cells[3]["penalize_intercept"] == 0.0


def test_cells_that_differ_in_reg_alone_are_one_task():
    tasks = list(load_spec(GRID).tasks())
    assert len(tasks) == 8 and all(len(t.cells) == 3 for t in tasks)
    for task in tasks:
        assert len({json.dumps({**c, "reg": 0}, sort_keys=True) for c in task.cells}) == 1


def test_ids_are_stable_and_differ():
    ids = [cell_id(c) for c in load_spec(GRID).cells()]
    assert len(set(ids)) == len(ids)
    assert ids == [cell_id(c) for c in load_spec(grid(reg=[0.1, 1, 10])).cells()]  # 1 and 1.0 are one value
    first = next(load_spec(GRID).cells())
    assert cell_id(first) != cell_id(first, maths_version=0)
    # more values on an axis, or another folder of data, leave a cell what it is
    assert set(ids) < {cell_id(c) for c in load_spec(grid(reg=[0.1, 1.0, 10.0, 100.0], root="/elsewhere")).cells()}


def test_settings_give_the_cells_back():
    spec = load_spec(grid(learner=["rbf_svm", "ridge"], gamma=[0.1, "scale"], labels={"0": 1}, mode="add"))
    assert list(from_settings(spec.settings).cells()) == list(spec.cells())


def test_gamma_belongs_to_the_kernel_alone():
    cells = list(load_spec(grid(learner=["ridge", "rbf_svm"], gamma=[0.01, 0.1])).cells())
    assert len(cells) == 36
    assert all(("gamma" in c) == (c["learner"] == "rbf_svm") for c in cells)
    assert next(load_spec(grid(learner="rbf_svm")).cells())["gamma"] == "scale"


def test_lists_inside_a_trigger_are_axes():
    trigger = [
        {"kind": "random_patch", "size": [2, 3], "position": ["top_left", [1, 2]]},
        {"kind": "invisible", "strength": [0.1, 0.2]},
    ]
    found = load_spec(grid(trigger=trigger)).axes["trigger"]
    assert len(found) == 6 and len({label(t) for t in found}) == 6
    assert found[1]["position"] == [1, 2]
    assert load_spec(grid(trigger={"kind": "solid_patch", "position": [1, 2]})).axes["trigger"][0]["position"] == [1, 2]


def test_the_strength_of_a_random_patch_is_an_axis_of_the_same_patch():
    trigger = {"kind": "random_patch", "size": 2, "alpha": [0.25, 1.0]}
    cells = list(load_spec(grid(trigger=trigger, learner="ridge", reg=1.0, fraction=0.1, repeat=1)).cells())
    assert [label(cell["trigger"]) for cell in cells] == ["random_patch alpha=0.25 size=2", "random_patch size=2"]
    faint, full = (trigger_of(cell, {}) for cell in cells)
    np.testing.assert_array_equal(faint.patch(1, 1), full.patch(1, 1))
    assert (faint.alpha, full.alpha) == (0.25, 1.0)


def test_seeds_depend_on_root_and_repeat_alone():
    cells = list(load_spec(grid(learner=["ridge", "rbf_svm"], repeat=3)).cells())
    by_repeat = {}
    for cell in cells:
        by_repeat.setdefault(cell["repeat"], set()).add(tuple(seeds_of(cell).items()))
    assert all(len(found) == 1 for found in by_repeat.values()) and len(set.union(*by_repeat.values())) == 3
    alone = load_spec(grid(repeat=[2])).cells()
    assert tuple(seeds_of(next(alone)).items()) in by_repeat[2]


def test_the_papers_seeds_are_the_repeats():
    spec = load_spec(grid(draw="paper", seeds=[1, 10, 11], repeat=None))
    assert [seeds_of(c)["poison"] for c in list(spec.cells())[::12]] == [1, 10, 11]


BAD = [  # (change of the file, line at fault, words of the message)
    (("reg =", "lerner = 1\nreg ="), 4, "unknown key `lerner`. Did you mean `learner`?"),
    (("reg =", "lambda = 1\nreg ="), 4, "Write `reg`"),
    (("reg =", "size = 1\nreg ="), 4, "`size` inside `trigger`"),
    (("[0.1, 1.0, 10.0]", "[]"), 4, "`reg` is an empty list"),
    (("[0.1, 1.0, 10.0]", "[1, 1.0]"), 4, "twice"),
    (("[0.1, 1.0, 10.0]", "[0.1, -1.0]"), 4, "reg=-1"),
    (("[0.1, 1.0, 10.0]", "'0.1'"), 4, "is not a number"),
    (('"ridge"]', '"rigde"]'), 3, "Did you mean `ridge`?"),
    (("  0.1,", "  10,"), 7, "write 0.2 for 20 %"),
    (("  0.1,", "  0.001,"), 7, "is no sample"),
    (("  0.1,", "  0.0,"), 7, "poisons no sample"),
    (("  0.1,", "  1.0,"), 7, "without clean samples"),
    (("repeat = 2", "gamma = 0.1"), 9, "no learner here has one"),
    (("repeat = 2", "repeat = 1_000_000"), 9, "12,000,000 cells (1000000 repeat"),
    (("repeat = 2", "repeat = [0, 0]"), 9, "names a repeat twice"),
    (("repeat = 2", "n_train = 5000"), 9, "253 samples"),
    (("repeat = 2", "n_test = 20"), 9, "does not take `n_test`"),
    (("repeat = 2", "labels = 7"), 9, "no class of the data"),
    (("repeat = 2", "seeds = [1]"), 9, "draw = 'paper'"),
    (("repeat = 2", "root = ['a']"), 9, "is no axis"),
    (("repeat = 2", "weights = 'a'"), 9, "without an `extractor`"),
    (("repeat = 2", "extractor = 'mobilenet_v2'"), 9, "needs the key `weights`"),
    (("[0.0, 0.5, 1.0]", "[0.5, 0.0]"), 10, "strictly increasing"),
    (("size = 2", "siz = 2"), 11, "Did you mean `size`?"),
    (("size = 2", "size = []"), 11, "is empty"),
    (("size = 2", "size = 20"), 11, "larger than the images"),
    (("random_patch", "random_pach"), 11, "Did you mean `random_patch`?"),
    (('{ kind = "random_patch", size = 2 }', '"random_patch"'), 11, "is not a table"),
    (('"random_patch"', '["random_patch", "invisible"]'), 11, "Use a list of tables"),
    (("digits:7-1", "digts:7-1"), 1, "names no data"),
    (("digits:7-1", "digits:7-1-3"), 3, "for two classes"),
    (("digits:7-1", "npz:none.npz"), 1, "is no file"),
]


@pytest.mark.parametrize(("change", "line", "words"), BAD, ids=[b[0][1][:30] for b in BAD])
def test_bad_grids_are_refused_with_the_line_at_fault(tmp_path, change, line, words):
    assert change[0] in TOML
    path = tmp_path / "grid.toml"
    path.write_text(TOML.replace(*change, 1))
    with pytest.raises(InvalidInput) as caught:
        check_against_data(load_spec(path))
    assert f"{path}, line {line}: " in str(caught.value)
    assert words in str(caught.value)


def test_other_errors_of_files(tmp_path):
    with pytest.raises(InvalidInput, match="does not exist"):
        load_spec(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("data = [1,\nreg")
    with pytest.raises(InvalidInput, match=r"not valid TOML.*line 2"):
        load_spec(tmp_path / "bad.toml")
    with pytest.raises(InvalidInput, match="`reg` is missing"):
        load_spec(grid(reg=None))
    with pytest.raises(InvalidInput, match="`trigger` is missing"):
        check_against_data(load_spec(grid(trigger=None)))
    with pytest.raises(InvalidInput, match="expected the path"):
        load_spec(3)


def test_the_limit_of_cells_can_be_raised():
    many = grid(reg=np.geomspace(1e-3, 1e3, 1000).tolist(), repeat=20)
    with pytest.raises(InvalidInput, match="80,000 cells.*`max_cells` = 1,000"):
        load_spec(many, max_cells=1000)
    assert len(load_spec({**many, "max_cells": 80_000})) == 80_000
    assert KEYS["max_cells"].default == 100_000


def test_a_finished_problem_takes_no_trigger(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    parts = ("clean", "backdoor", "test", "triggered")
    arrays = {f"X_{p}": rng.normal(size=(20, 5)) for p in parts} | {f"y_{p}": np.arange(20) % 2 for p in parts}
    np.savez(tmp_path / "mine.npz", **arrays)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="nothing is left to draw"):
        check_against_data(load_spec(grid(data="npz:mine.npz")))
    sizes = check_against_data(load_spec({"data": "npz:mine.npz", "learner": "ridge", "reg": 1.0}))
    assert [(s.n, s.d, s.c) for s in sizes.values()] == [(20, 5, 2)]
