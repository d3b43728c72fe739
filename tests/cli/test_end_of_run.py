"""The end of a run on a terminal and in a pipe."""

import re

import pytest

from hf_paint.cli.outcome import report
from hf_paint.cli.tables import print_table
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.outcome import Outcome
from hf_paint.results.records import Result
from terminal import terminal


def result_of(tasks, alphas=(0.0, 0.5)):
    """Return a curve over tasks, and the outcome of choosing its second alpha."""
    results = [
        Result(alpha=alpha, task=task, role=role, split=split, correct=correct, total=10000)
        for (task, role), counts in tasks.items()
        for split in ("validation", "test")
        for alpha, correct in zip(alphas, counts, strict=True)
    ]
    curve = AlphaCurve(results)
    selection = {"alpha": alphas[1], "rule": "supported_within", "tolerance": 0.01}
    return curve, Outcome.of(curve, selection, {"selection": "supported_within"})


@pytest.fixture
def outcome():
    return result_of({("describable_textures", "patching"): [810, 1220], ("cifar10", "supported"): [9012, 8931]})


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
    print_table(rows)
    table = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert max(map(len, table.splitlines())) <= 80
    assert "~-8.3 (-9.4 to -7.2)" in table  # cells of numbers stay on one line


MANY = {("describable_textures", "patching"): [810, 1220, 3000]}
MANY |= {(f"clip-benchmark/wds_{number}", "supported"): [9000, 8990, 8000] for number in range(7)}


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_the_tables_of_many_tasks_fit_every_terminal(columns, monkeypatch, tmp_path):
    curve, end = result_of(MANY, alphas=(0.0, 0.5, 1.0))
    with terminal(monkeypatch, columns=columns, stream="stdout") as shown:
        report(end, curve, tmp_path, end="fine-tuned")
    text = re.sub(r"\x1b\[[\d;]*m", "", shown.text)
    *tables, _ = text.rstrip().split("\n\n")
    assert max(len(line) for table in tables[1:] for line in table.splitlines()) <= columns
    assert "by alpha; the row marked with * was chosen:" in text
    chosen = next(line for line in text.splitlines() if line.startswith("0.50 *"))
    patching, *supported = chosen.split()[2:]
    assert patching == "12.20"
    assert supported == ["89.90"] * (1 if columns < 120 else 7)  # of the mean, or of every task
    assert "|" not in text


@pytest.mark.parametrize(("variable", "value"), [("TERM", "dumb"), ("NO_COLOR", "1")])
def test_the_chosen_row_has_a_mark_without_colours(variable, value, outcome, monkeypatch, tmp_path):
    curve, end = outcome
    monkeypatch.setenv(variable, value)
    with terminal(monkeypatch, stream="stdout") as shown:
        report(end, curve, tmp_path, end="fine-tuned")
    assert not re.search(r"\x1b\[(3|4)\d", shown.text)
    assert re.search(r"^(\x1b\[1m)?0\.50 \*", shown.text, re.M)
    if variable == "TERM":
        assert "\x1b" not in shown.text


def test_a_table_needs_no_unicode(outcome, monkeypatch, tmp_path):
    curve, end = outcome
    with terminal(monkeypatch, encoding="ascii", stream="stdout") as shown:
        report(end, curve, tmp_path, end="fine-tuned")
    assert "0.50 *" in shown.text


@pytest.mark.parametrize("chosen", [0.0, 0.5, 0.99, 1.0])
def test_a_long_table_shows_the_ends_and_the_neighbours_of_the_choice(chosen, capsys, tmp_path):
    alphas = [step / 100 for step in range(101)]
    curve = AlphaCurve.from_accuracies(
        alphas, patching={"a": [0.5 + alpha / 4 for alpha in alphas]}, supported={"b": [0.75] * 101}, split="test"
    )
    selection = {"alpha": chosen, "rule": "by hand", "tolerance": 0.01, "num_alphas": 101, "chosen_on": None}
    end = Outcome.of(curve, selection | {"reported_on": "test"}, {"selection": "mean"})
    report(end, curve, tmp_path, end="fine-tuned")
    printed = capsys.readouterr().out
    near = [step for step in range(101) if abs(step - round(100 * chosen)) <= 3]
    shown = sorted({0, *near, 100})
    rows = re.findall(r"^\| \**([\d.]+)[* ]", printed, flags=re.MULTILINE)
    assert [round(100 * float(row)) for row in rows] == shown
    assert f"These are {len(shown)} of 101 alphas; all of them are in {tmp_path / 'results.jsonl'}." in printed
