"""`make matrix` counts only tests that passed."""

import runpy
import sys
from pathlib import Path

import pytest


MATRIX = runpy.run_path(str(Path(__file__).with_name("matrix.py")), run_name="matrix")


@pytest.mark.parametrize(
    ("tests", "ok"),
    [
        ("1902 passed, 3 skipped in 400.00s", True),
        ("1 failed, 1901 passed in 400.00s", False),
        ("1902 passed, 1 error in 400.00s", False),
        ("no tests ran in 0.01s", False),
        ("ModuleNotFoundError: No module named 'torch'", False),
        ("not installed here", True),
    ],
)
def test_an_environment_is_fine_if_tests_passed_and_none_failed(tests, ok):
    assert MATRIX["Outcome"]("3.11", "oldest", "", "ok", tests).ok is ok


def test_a_python_that_only_pyenv_has_is_not_installed(tmp_path, monkeypatch):
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert not MATRIX["is_installed"]("python3.99")
    assert not MATRIX["is_installed"]("python3.98")
    assert MATRIX["is_installed"](sys.executable)
