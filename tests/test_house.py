"""The code layout: sizes, packages and their public names, independent test modules, and the contributing guide."""

import ast
import re
from pathlib import Path

import pytest

import hf_paint


TESTS = Path(__file__).parent
SOURCE = Path(hf_paint.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
PACKAGES = sorted(path.parent for path in SOURCE.glob("*/__init__.py"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def trees(*kinds):
    """Yield (location, node) for every node of these kinds in the package."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kinds):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", node


def body_lines(function):
    """Count the lines of a function from the first statement after the docstring to the last."""
    start = 1 if ast.get_docstring(function, clean=False) is not None else 0
    return function.end_lineno - function.body[start].lineno + 1 if len(function.body) > start else 0


def test_no_module_is_longer_than_250_lines():
    lengths = {str(path.relative_to(SOURCE)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > 250} == {}


def test_no_function_body_is_longer_than_40_lines():
    lengths = {f"{place} {node.name}": body_lines(node) for place, node in trees(*FUNCTIONS)}
    assert {name: length for name, length in lengths.items() if length > 40} == {}


def test_the_first_level_is_short():
    modules = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    others = {path.name for path in SOURCE.iterdir() if path.name[0] not in "_." and path.suffix != ".py"}
    assert len(modules) <= 5
    assert len(PACKAGES) <= 14
    assert others == {path.name for path in PACKAGES} | {"py.typed", "toy_clip"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_has_a_docstring_and_lists_its_names(package):
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    [names] = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
    assert ast.get_docstring(tree)
    assert ast.literal_eval(names)


def test_the_package_neither_prints_nor_asserts():
    calls = [place for place, node in trees(ast.Call) if isinstance(node.func, ast.Name) and node.func.id == "print"]
    assert [*calls, *(place for place, _ in trees(ast.Assert))] == []


def test_no_test_module_imports_another():
    for path in TESTS.rglob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        modules = {node.module for node in imports if node.module}
        assert not {name for name in modules if name == "conftest" or name.startswith("test_")}, path


def test_the_guide_names_files_that_exist():
    text = (TESTS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`([\w/]+\.(?:py|md))`", text))
    assert len(names) > 30
    assert {name for name in names if not any((root / name).exists() for root in (SOURCE, TESTS.parent))} == {
        "cli/NAME.py"
    }
    packages = re.findall(r"^  (\w+)/  ", text, re.M)
    assert sorted(packages) == [path.name for path in PACKAGES]
