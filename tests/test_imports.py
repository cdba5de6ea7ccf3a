"""Modules import only upstream: following the imports of the package, those inside functions too, never leads back."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def module_name(path, root):
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(root):
    """Return {module: modules that it imports} of the package below a folder."""
    paths = {module_name(path, root): path for path in (root / "learningcurves").rglob("*.py")}
    found = {}
    for module, path in paths.items():
        named = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                named |= {name if name in paths else node.module for name in inner}
            elif isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
        found[module] = (named & set(paths)) - {module}
    return found


def test_no_module_imports_itself_in_a_circle():
    graph = imports(ROOT)
    assert len(graph) > 150 and sum(map(len, graph.values())) > 500
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("modules import each other: " + " <- ".join(error.args[1]))


def test_a_circle_inside_a_function_is_seen(tmp_path):
    package = tmp_path / "learningcurves" / "inner"
    package.mkdir(parents=True)
    (package / "a.py").write_text("from learningcurves.inner.b import f\n")
    (package / "b.py").write_text("def f():\n    from learningcurves.inner import a\n")
    with pytest.raises(CycleError):
        TopologicalSorter(imports(tmp_path)).prepare()
