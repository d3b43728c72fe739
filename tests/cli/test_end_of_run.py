"""The end of a run on a terminal and in a pipe."""

import re

import pytest

from hf_paint.cli.outcome import print_rows, report
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.outcome import Outcome
from hf_paint.results.records import Result


@pytest.fixture
def outcome():
    tasks = {("describable_textures", "patching"): [810, 1220], ("cifar10", "supported"): [9012, 8931]}
    results = [
        Result(alpha=alpha, task=task, role=role, split=split, correct=correct, total=10000)
        for (task, role), counts in tasks.items()
        for split in ("validation", "test")
        for alpha, correct in zip((0.0, 0.5), counts, strict=True)
    ]
    curve = AlphaCurve(results)
    selection = {"alpha": 0.5, "rule": "supported_within", "tolerance": 0.01}
    return curve, Outcome.of(curve, selection, {"selection": "supported_within"})


def test_a_pipe_gets_markdown(outcome, capsys, tmp_path):
    curve, end = outcome
    report(end, curve, tmp_path, end="fine-tuned")
    out = capsys.readouterr().out
    assert "Accuracy on test images in percent, by alpha; the row in bold was chosen:" in out
    assert "| **0.50** | **12.20** | **89.31** |" in out
    assert "| describable_textures | patching | 10000 | 8.1 | 12.2 | +4.1 |" in out
    assert out.endswith("cifar10 stays within 1 point of zero-shot on validation images.\n")


def test_a_terminal_of_80_columns_gets_a_table(outcome, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    curve, end = outcome
    report(end, curve, tmp_path, end="fine-tuned")
    out = capsys.readouterr().out
    assert "\x1b[1m" in out  # the chosen row
    assert "**" not in out
    rows = [["task", "role", "validation images", "before", "after", "gain (95 % interval)"]]
    rows += [["describable_textures", "supported", "10000", "~89.8", "~81.5", "~-8.3 (-9.4 to -7.2)"]]
    print_rows(rows, text_columns=2)
    table = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert max(map(len, table.splitlines())) <= 80
    assert "~-8.3 (-9.4 to -7.2)" in table  # cells of numbers stay on one line
