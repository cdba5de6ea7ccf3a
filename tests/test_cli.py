"""The command line: what it prints and writes, how it fails, and that files are whole or absent."""

import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import learningcurves as lc
from learningcurves import cli, memory
from learningcurves.commands import VERBS, progress
from learningcurves.data.arrays import save_npz

COLUMNS = ["learner", "reg", "beta", "loss_triggered", "loss_clean", "bk", "accuracy_clean", "rho", "nu", "slope"]


@pytest.fixture(scope="module")
def problem():
    return lc.poison(lc.load_digits_pair(7, 1), lc.RandomPatch(size=3, seed=0), fraction=0.1, seed=0)


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave out the drawing, the slowest part, where a test is about something else."""
    monkeypatch.setattr("learningcurves.commands.curve.write_pictures", lambda *_: [])


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_bare_curve_does_the_digits_example(tmp_path, monkeypatch, capsys, problem):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["curve"]) == 0
    printed = capsys.readouterr()
    assert "negative: the backdoor is learned" in printed.out
    assert printed.err in ("", "drawing ...\n", "solving ...\n")
    folder = tmp_path / "learningcurves-out"
    pictures = [f"{name}.{ending}" for name in ("curve", "deviation") for ending in ("pdf", "png", "svg")]
    assert files(folder) == sorted(["curve.csv", "curve.json", *pictures])
    frame = pd.read_csv(folder / "curve.csv")
    curve = lc.learning_curve(lc.Logistic(reg=1.0), problem)
    assert list(frame.columns) == [*COLUMNS, "residual", "bound", "status"]
    np.testing.assert_array_equal(frame["loss_triggered"], curve.loss_triggered)
    assert set(frame["status"]) == {"ok"}
    facts = json.loads((folder / "curve.json").read_text())
    assert facts["rows"][3]["beta"] == frame["beta"][3]
    assert facts["curves"][0]["slope"] == curve.slope[0]
    assert facts["problem"]["trigger_name"] == "random_patch_3x3"


def test_several_reg_share_one_table(tmp_path, capsys):
    argv = [
        "curve",
        "--learner",
        "ridge",
        "--reg",
        "10",
        "0.1",
        "--beta",
        "0",
        "0.5",
        "1",
        "--out",
        str(tmp_path / "a"),
    ]
    assert cli.main(argv) == 0
    frame = pd.read_csv(tmp_path / "a" / "curve.csv")
    assert frame["reg"].tolist() == [10.0] * 3 + [0.1] * 3
    assert frame["beta"].tolist() == [0.0, 0.5, 1.0] * 2
    assert capsys.readouterr().out.count("certificate") == 2


def test_the_same_command_writes_the_same_bytes(tmp_path):
    for name in "ab":
        assert cli.main(["curve", "--learner", "linear-svm", "--beta", "0", "1", "--out", str(tmp_path / name)]) == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("learner", ["logistic", "ridge", "linear-svm", "squared-hinge-svm", "rbf-svm", "softmax"])
@pytest.mark.parametrize(
    "trigger",
    [
        ["random-patch"],
        ["random-patch", "--strength", "0.5"],
        ["solid-patch", "--size", "2"],
        ["invisible"],
        ["blend", "--strength", "0.3"],
        ["badnets"],
        ["checkerboard", "--strength", "0.5"],
        ["sinusoid", "--strength", "0.1"],
    ],
)
def test_every_learner_and_trigger_gives_a_slope(learner, trigger, capsys):
    assert cli.main(["slope", "--learner", learner, "--trigger", *trigger]) == 0
    assert "dL/dbeta" in capsys.readouterr().out


def test_slope_prints_verifies_and_writes(tmp_path, capsys, problem):
    argv = ["slope", "--learner", "linear-svm", "--reg", "0.1", "1", "--verify", "--out", str(tmp_path)]
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert out.count("Verification") == 2
    assert "breakpoint" in out
    frame = pd.read_csv(tmp_path / "slope.csv")
    expected = [lc.backdoor_slope(lc.LinearSVM(reg=reg), problem).value for reg in (0.1, 1.0)]
    np.testing.assert_array_equal(frame["slope"], expected)
    assert files(tmp_path) == ["slope.csv", "slope.json", "slope.pdf", "slope.png", "slope.svg"]


def test_more_than_two_classes_take_softmax(tmp_path, capsys, no_pictures):
    assert cli.main(["curve", "--data", "synthetic:3", "--beta", "0", "1", "--out", str(tmp_path)]) == 0
    assert "softmax" in capsys.readouterr().out


def test_npz_of_a_problem(tmp_path, problem, capsys):
    save_npz(tmp_path / "mine.npz", problem)
    argv = ["slope", "--data", f"npz:{tmp_path}/mine.npz", "--reg", "2"]
    assert cli.main(argv) == 0
    assert f"{lc.backdoor_slope(lc.Logistic(reg=2.0), problem).value:.6g}" in capsys.readouterr().out
    assert cli.main([*argv, "--fraction", "0.2"]) == 2
    assert "`--fraction` makes a backdoor" in capsys.readouterr().err


def test_npz_of_a_data_set_is_poisoned(tmp_path, capsys):
    save_npz(tmp_path / "mine.npz", lc.load_digits_pair(7, 1))
    assert cli.main(["slope", "--data", f"npz:{tmp_path}/mine.npz", "--trigger", "solid-patch", "--size", "2"]) == 0
    assert "solid_patch_2x2" in capsys.readouterr().out


def test_labels_name_the_class_that_triggered_samples_become(tmp_path, capsys):
    argv = ["slope", "--data", "digits:0-1-2", "--labels", "2", "--out", str(tmp_path)]
    assert cli.main(argv) == 0
    problem = lc.poison(lc.load_digits_classes((0, 1, 2)), lc.RandomPatch(), fraction=0.1, labels=2)
    assert f"{lc.backdoor_slope(lc.Softmax(), problem).value:.6g}" in capsys.readouterr().out
    assert cli.main([*argv, "--labels", "7"]) == 2
    assert "`labels` names the target '7'" in capsys.readouterr().err


def test_the_papers_draw(mnist_root, tmp_path, no_pictures):
    argv = [
        "curve",
        "--data",
        "mnist:7-1",
        "--root",
        str(mnist_root),
        "--draw",
        "paper",
        "--seed",
        "999",
        "--size",
        "6",
    ]
    assert (
        cli.main([*argv, "--learner", "ridge", "--reg", "500", "--beta", "0", "0.1", "1", "--out", str(tmp_path)]) == 0
    )
    # the released curves take the loss (1 - m)^2 at lambda 1000: twice ours, at half the lambda
    loss = 2 * pd.read_csv(tmp_path / "curve.csv")["loss_triggered"]
    np.testing.assert_allclose(loss[:2], [3.295, 2.891], atol=1e-3)


def test_a_fitted_model_from_skops(tmp_path, problem, capsys, no_pictures):
    model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=10_000))
    model.fit(problem.X_clean, problem.y_clean)
    skops.io.dump(model, tmp_path / "model.skops")
    argv = ["--model", str(tmp_path / "model.skops")]
    assert cli.main(["slope", *argv, "--refine"]) == 0
    printed = capsys.readouterr().out
    assert f"{lc.backdoor_slope(model, problem, refine=True).value:.6g}" in printed
    assert cli.main(["curve", *argv, "--refine", "--beta", "0", "1", "--out", str(tmp_path / "out")]) == 0
    assert cli.main(["slope", *argv, "--learner", "ridge"]) == 2


def test_a_loose_model_is_marked(tmp_path, problem, capsys):
    loose = LogisticRegression(C=100.0, tol=0.5).fit(problem.X_clean, problem.y_clean)
    skops.io.dump(loose, tmp_path / "loose.skops")
    assert cli.main(["slope", "--model", str(tmp_path / "loose.skops")]) == 1
    printed = capsys.readouterr()
    assert "learningcurves: warning: " in printed.err and "refine" in printed.err
    assert "not at the optimum" in printed.out
    assert cli.main(["slope", "--model", str(tmp_path / "loose.skops"), "--refine"]) == 0


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_no_pickle_is_run(tmp_path, capsys, problem):
    for name in ("model.pkl", "model.skops"):
        (tmp_path / name).write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
        assert cli.main(["slope", "--model", str(tmp_path / name)]) == 2
        assert "skops.io.dump" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (RandomForestClassifier(2), "holds sklearn"),
        (make_pipeline(FunctionTransformer(np.exp), LogisticRegression()), "FunctionTransformer"),
    ],
    ids=["forest", "function"],
)
def test_other_types_in_a_skops_file_are_refused(tmp_path, problem, model, words, capsys):
    skops.io.dump(model.fit(problem.X_clean, problem.y_clean), tmp_path / "model.skops")
    assert cli.main(["slope", "--model", str(tmp_path / "model.skops")]) == 2
    message = capsys.readouterr().err
    assert words in message and "Supported: LinearSVC, LogisticRegression, RidgeClassifier, SVC" in message


@pytest.mark.parametrize("damage", ["empty", "no schema", "bad schema", "truncated"])
def test_damaged_skops_files(tmp_path, problem, damage, capsys):
    path = tmp_path / "model.skops"
    skops.io.dump(LogisticRegression().fit(problem.X_clean, problem.y_clean), path)
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("other" if damage == "no schema" else "schema.json", "{]")
    assert cli.main(["slope", "--model", str(path)]) == 2
    assert "not a .skops file" in capsys.readouterr().err


WRONG = {
    "no verb": ([], "VERB"),
    "an unknown verb": (["curves"], "invalid choice"),
    "an unknown option": (["curve", "--lambda", "1"], "unrecognized arguments"),
    "reg as text": (["curve", "--reg", "strong"], "invalid float value"),
    "reg negative": (["curve", "--reg", "-1"], "`reg=-1`"),
    "reg twice": (["curve", "--reg", "1", "1"], "`--reg` holds 1 twice"),
    "beta outside": (["curve", "--beta", "0", "2"], "`beta` holds 2"),
    "beta falling": (["curve", "--beta", "1", "0"], "strictly increasing"),
    "fraction in percent": (["curve", "--fraction", "10"], "write 0.2 for 20 %"),
    "an unknown learner": (["slope", "--learner", "tree"], "invalid choice"),
    "gamma without a kernel": (["slope", "--gamma", "1"], "`--gamma`"),
    "gamma as text": (["slope", "--learner", "rbf-svm", "--gamma", "wide"], "not a number, 'scale' or 'auto'"),
    "size of an overlay": (
        ["slope", "--trigger", "blend", "--size", "3"],
        "`--size` is the side of a random or solid patch",
    ),
    "strength of a patch": (["slope", "--strength", "1.5"], "`alpha=1.5`"),
    "a patch larger than the image": (["slope", "--size", "9"], "larger than the images"),
    "data by a wrong name": (["curve", "--data", "digits:7-x"], "not one of the digits"),
    "a missing file": (["curve", "--data", "npz:none.npz"], "is no file"),
    "the paper's draw of digits": (["curve", "--draw", "paper"], "does not take `draw`"),
    "a binary learner on three classes": (["curve", "--data", "synthetic:3", "--learner", "ridge"], "lc.Softmax"),
    "a missing model": (["slope", "--model", "none.skops"], "is no file"),
    "a model with another reg": (["slope", "--model", "none.skops", "--reg", "1"], "exclude each other"),
    "at outside": (["slope", "--at", "3"], "`at=3`"),
    "parquet to nowhere": (["slope", "--parquet"], "--out FOLDER"),
    "a seed below 0": (["curve", "--seed", "-1"], "`seed=-1`"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage_ends_with_2_and_one_message(name, tmp_path, monkeypatch, capsys):
    argv, words = WRONG[name]
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == 2
    printed = capsys.readouterr()
    assert words in printed.err, printed.err
    assert "Traceback" not in printed.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not written


def test_a_file_in_place_of_the_folder(tmp_path, capsys):
    (tmp_path / "taken").write_text("mine")
    assert cli.main(["curve", "--out", str(tmp_path / "taken")]) == 2
    assert "`--out" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_full_disk_leaves_the_old_files(tmp_path, monkeypatch, capsys, no_pictures):
    argv = ["curve", "--learner", "ridge", "--beta", "0", "1", "--out", str(tmp_path)]
    assert cli.main(argv) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real = sys.modules["learningcurves.storage"].os.replace

    def full(source, target):
        if str(target).endswith(".json"):
            raise OSError(28, "No space left on device")
        return real(source, target)

    monkeypatch.setattr("learningcurves.storage.os.replace", full)
    assert cli.main([*argv, "--reg", "5"]) == 1
    assert "No space left" in capsys.readouterr().err
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(after) == set(before)  # no temporary file stays behind
    assert after["curve.json"] == before["curve.json"]


def test_too_little_memory_is_said_before_any_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(memory, "available_memory", lambda: 20_000)
    assert cli.main(["slope", "--data", "synthetic:3"]) == 2
    assert "of memory" in capsys.readouterr().err


def test_an_unsolved_point_ends_with_1(monkeypatch, tmp_path, capsys):
    from learningcurves.commands import curve as verb
    from learningcurves.errors import SolveFailed, Status

    def fail(*_, **__):
        raise SolveFailed("No minimum found at beta=0.", Status.MAX_STEPS)

    monkeypatch.setattr("learningcurves.curves.entry.learning_curve", fail)
    assert cli.main(["curve", "--out", str(tmp_path)]) == 1
    assert "No minimum found" in capsys.readouterr().err
    assert verb.EXAMPLE


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(verb, capsys):
    assert cli.main([verb, "--help"]) == 0
    assert f"learningcurves {verb}" in capsys.readouterr().out.split("example")[-1]


def test_help_and_version(capsys):
    assert cli.main(["--help"]) == 0
    listing = capsys.readouterr().out
    assert all(verb in listing for verb in VERBS) and "exit codes" in listing
    assert cli.main(["--version"]) == 0
    assert lc.__version__ in capsys.readouterr().out


def test_parquet_or_the_name_of_the_extra(tmp_path, capsys):
    code = cli.main(["slope", "--parquet", "--out", str(tmp_path)])
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        assert code == 2
        assert "learningcurves[parquet]" in capsys.readouterr().err
    else:
        assert code == 0
        assert len(pd.read_parquet(tmp_path / "slope.parquet")) == 1


def test_progress_speaks_after_two_seconds_only(monkeypatch, capsys):
    with progress.step("solving"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "QUIET", 0.02)
    with progress.step("solving"):
        import time

        time.sleep(0.3)
    assert "solving ..." in capsys.readouterr().err


def test_it_runs_as_a_program(tmp_path):
    command = [sys.executable, "-m", "learningcurves.cli", "slope", "--fraction", "7"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("learningcurves slope: error: `fraction=7`")
    assert done.stdout == ""
