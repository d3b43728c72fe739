"""The house keeps its measures: sizes, packages and their faces, and tests that stand alone."""

import ast
from pathlib import Path


TESTS = Path(__file__).parent


def test_no_test_module_imports_another():
    for path in TESTS.rglob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        modules = {node.module for node in imports if node.module}
        assert not {name for name in modules if name == "conftest" or name.startswith("test_")}, path
