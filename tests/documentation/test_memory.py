"""The page on memory shows what its command prints."""

import os
import re
from unittest.mock import patch

from pages import ROOT, read


def test_the_predictions_are_those_of_the_command(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    with patch.dict(os.environ):  # the benchmarks run in a separate environment
        from settings_memory import table
    number = r" ([\d.]+)(?: GB)? \|"
    shown = re.findall(rf"^\|.*\|{number}{number}{number}$", read("docs/how_to/memory.md"), re.M)
    assert [list(row) for row in shown] == [row[1:] for row in table()[1:]]
