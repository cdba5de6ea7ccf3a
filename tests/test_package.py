"""The package as a whole: quick to import, without torch, and the README says what is true."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import learningcurves as lc
from learningcurves import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def run_python(code, cwd=None):
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def marked(name):
    """Return the code block of the README after the marker ``<!-- ci:name -->``."""
    found = re.search(rf"^<!-- ci:{name} -->\n```\w+\n(.*?)^```\n<!-- ci:end -->$", README, re.M | re.S)
    assert found, name
    return found[1]


def test_importing_is_quick():
    code = "import time; t = time.process_time(); import learningcurves; print(time.process_time() - t)"
    assert min(float(run_python(code)) for _ in range(3)) < 1.0


def test_convex_work_never_imports_torch():
    code = """
import sys
import pandas  # imports pyarrow itself where it is installed
before = set(sys.modules)
import learningcurves as lc
problem = lc.poison(lc.load_digits_pair(7, 1), lc.RandomPatch(), fraction=0.1)
for learner in (lc.Logistic(), lc.Ridge(), lc.LinearSVM(), lc.KernelSVM(), lc.Softmax()):
    curve = lc.learning_curve(learner, problem, beta=[0.0, 1.0])
    lc.backdoor_slope(learner, problem)
    lc.pairwise_influence(learner, problem)
lc.parameter_deviation(curve).plot()
from learningcurves import cli
cli.make_parser(["curve"])
print([name for name in ("torch", "skops", "pyarrow", "altair", "IPython") if name in sys.modules.keys() - before])
"""
    assert run_python(code).strip() == "[]"


def test_help_of_the_command_line_is_quick():
    code = """
import sys
from learningcurves import cli
try:
    cli.make_parser(["curve"]).parse_args(["curve", "--help"])
except SystemExit:
    pass
print([name for name in ("sklearn", "matplotlib", "pandas", "torch") if name in sys.modules])
"""
    assert run_python(code).strip().endswith("[]")


@pytest.mark.parametrize("name", lc.__all__)
def test_public_names_exist_and_are_documented(name):
    value = getattr(lc, name)
    assert name == "__version__" or value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="learning_curves"):
        lc.learning_curves  # noqa: B018


def test_the_version_is_said_once_and_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == lc.__version__
    assert f"## {lc.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_readmes_first_result_takes_ten_lines():
    block = re.search(r"^```python\n(.*?)^```", README, re.M | re.S)[1]
    assert len([line for line in block.splitlines() if line.strip()]) <= 10


def test_the_readmes_main_job_prints_what_it_says(tmp_path, monkeypatch, capsys):
    assert marked("setup").endswith(".venv/bin/learningcurves curve\n")
    assert "-m pytest" in marked("test")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["curve"]) == 0
    printed = capsys.readouterr().out.splitlines()
    said = marked("output").splitlines()
    assert printed[: len(said)] == said


def test_ci_takes_its_commands_from_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    assert "run_readme setup" in script and "run_readme test" in script
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


def test_nothing_in_the_package_unpickles_or_downloads():
    words = re.compile(
        r"allow_pickle=True|pickle\.loads?\(|joblib\.load|torch\.load\((?!.*weights_only=True)|urlopen|requests\.|urlretrieve"
    )
    for path in (ROOT / "learningcurves").rglob("*.py"):
        assert not words.search(path.read_text()), path


def test_the_readmes_pictures_come_from_their_script(tmp_path):
    script = ROOT / "figures" / "readme.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {Path(target).name for target in re.findall(r"!\[[^\]]*\]\((docs/images/[^)/]+)\)", README)}
