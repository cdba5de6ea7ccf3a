"""Reading and writing weights: no code is run, and what does not fit is named."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from learningcurves.errors import InvalidInput  # noqa: E402
from learningcurves.networks import load_weights, save_weights  # noqa: E402
from learningcurves.networks.weights import load_tensors, save_tensors, weights_digest  # noqa: E402


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_file_that_is_replaced_while_it_is_read_is_one_version_or_the_other(tmp_path, monkeypatch):
    """Another process puts a second version in the file's place at every point where a reader could open it again."""
    path, other, read_bytes = tmp_path / "state.safetensors", tmp_path / "other", Path.read_bytes
    map_file, replaced = torch.UntypedStorage.from_file, []

    def replace():
        replaced.append(os.replace(other, path))

    def mapped(name, *rest, **options):  # by safetensors' own readers, after they have read the header
        replace()
        return map_file(name, *rest, **options)

    def read(self):
        content = read_bytes(self)
        replace()
        return content

    monkeypatch.setattr(torch.UntypedStorage, "from_file", mapped)
    monkeypatch.setattr(Path, "read_bytes", read)
    save_tensors(path, {"mask": torch.zeros(500)}, {"version": "0"})
    save_tensors(other, {"mask": torch.ones(500)}, {"version": "1"})
    tensors, facts = load_tensors(path)
    assert len(replaced) == 1 and facts == {"version": "0"} and not tensors["mask"].any()


def test_files_give_the_weights_back(make_cnn, tmp_path, equal_weights):
    trained, wrapped = make_cnn(seed=1), {"epoch": 3, "state_dict": None}
    save_weights(trained, tmp_path / "a.safetensors")
    torch.save(trained.state_dict(), tmp_path / "b.pt")
    wrapped["state_dict"] = {f"module.{name}": value for name, value in trained.state_dict().items()}
    torch.save(wrapped, tmp_path / "c.pth")
    for name in ("a.safetensors", "b.pt", "c.pth"):
        fresh = make_cnn(seed=0)
        assert load_weights(fresh, tmp_path / name) is fresh
        assert equal_weights(fresh, trained) and weights_digest(fresh) == weights_digest(trained)
    assert weights_digest(make_cnn(seed=0)) != weights_digest(trained)


def test_tied_parameters_are_written(tmp_path):
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    save_weights(module, tmp_path / "tied.safetensors")
    before = weights_digest(module)
    load_weights(module, tmp_path / "tied.safetensors")
    assert weights_digest(module) == before and module[1].weight is module[0].weight


def test_differences_are_named_and_nothing_changes(make_cnn, tmp_path):
    small, wide = make_cnn(width=4), make_cnn(width=6)
    save_weights(wide, tmp_path / "wide.safetensors")
    before = weights_digest(small)
    with pytest.raises(
        InvalidInput, match=r"other shape: blocks.0.0.weight \(6, 1, 3, 3\) in the file, \(4, 1, 3, 3\)"
    ):
        load_weights(small, tmp_path / "wide.safetensors")
    state = small.state_dict()
    state["fc.weight"] = state.pop("head.weight")
    torch.save(state, tmp_path / "renamed.pt")
    with pytest.raises(InvalidInput, match=r"missing: head.weight; unexpected: fc.weight"):
        load_weights(small, tmp_path / "renamed.pt")
    assert weights_digest(small) == before


def test_code_in_a_file_does_not_run(make_cnn, tmp_path):
    victim = tmp_path / "ran"
    torch.save({"state_dict": Bomb(victim)}, tmp_path / "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(victim)))
    for name in ("bomb.pt", "plain.pt"):
        with pytest.raises(InvalidInput, match="was not read"):
            load_weights(make_cnn(), tmp_path / name)
    assert not victim.exists()


def test_unreadable_files_are_named(make_cnn, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    (tmp_path / "b.pt").write_bytes(b"")
    torch.save([1, 2], tmp_path / "c.pt")
    for name, message in [("a.safetensors", "not a readable safetensors"), ("b.pt", "b.pt"), ("c.pt", "dictionary")]:
        with pytest.raises(InvalidInput, match=message):
            load_weights(make_cnn(), tmp_path / name)
    with pytest.raises(InvalidInput, match="is not a file"):
        load_weights(make_cnn(), tmp_path / "absent.pt")


def test_missing_torch_names_the_extra():
    code = "import sys; sys.modules['torch'] = None\nimport learningcurves.networks"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "pip install learningcurves[torch]" in done.stderr
