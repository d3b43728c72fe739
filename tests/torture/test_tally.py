"""What is lost is counted, told and ends in exit code 1."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import run
from tally import Tally


RUN = Path(__file__).with_name("run.py")
PART = """
from tally import Tally

def torture(budget):
    tally = Tally("numbers", notes={"largest": "2"})
    for number in range(3):
        with tally.attempt(f"number {number}"):
            if number == 1:
                raise ValueError("one")
    yield tally
    yield Tally("letters")
"""


def test_what_is_lost_is_shown(tmp_path):
    (tmp_path / "same.py").write_text(PART)
    program = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(RUN.parent)!r}]; import run; sys.exit(run.main())"
    command = [sys.executable, "-c", program, "same", "--minutes", "1", "--json", str(tmp_path / "results.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "LOST number 1: ValueError: one" in done.stdout
    assert "| same | numbers | 3 | 2 | 1 | largest 2 |" in done.stdout
    assert "| same | letters | 0 | not tried | not tried |  |" in done.stdout
    row, _ = json.loads((tmp_path / "results.json").read_text())["parts"]["same"]
    assert (row["tried"], row["survived"], row["lost"]) == (3, 2, ["number 1: ValueError: one"])


def test_what_was_never_tried_has_not_survived(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "import_module", lambda part: SimpleNamespace(torture=lambda budget: [Tally("letters")]))
    monkeypatch.setattr("sys.argv", ["run.py", "load", "--json", str(tmp_path / "results.json")])
    assert run.main() == 1
    assert "letters: not tried" in capsys.readouterr().out
