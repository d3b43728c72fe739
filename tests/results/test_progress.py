"""Progress: a line for each stage and, on a terminal, one bar; in a file, lines now and then."""

import io
import sys

import pytest
from tqdm import tqdm

from hf_paint.results import progress as module
from hf_paint.results.progress import Display, begin_stage, progress, say_progress, stages
from terminal import terminal


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(module, "DELAY", 0.0)
    monkeypatch.setenv("TERM", "xterm")


def work(**options):
    """Decode and sweep, with bars of other libraries inside."""
    with progress(**options), stages(["decode", "train", "sweep", "write"]):
        begin_stage("decode", "2 tasks")
        for _ in tqdm(range(4), "Decoding mnist", mininterval=0):
            list(tqdm([1, 2], "inner", position=3, disable=False))
        begin_stage("sweep", "3 alphas")  # theta_1 is kept, so nothing is trained
        with tqdm(total=3000, unit_scale=True, mininterval=0) as bar:
            for alpha in range(3):
                bar.set_postfix_str(f"alpha {alpha}")
                bar.update(1000)
        list(tqdm((row for row in [1, 2]), "stream", mininterval=0))
        begin_stage("elsewhere")
        say_progress("a line")
        begin_stage("write")


LINES = ["1/4 decode: 2 tasks", "3/4 sweep: 3 alphas", "a line", "4/4 write"]


@pytest.mark.parametrize("columns", [60, 200])
def test_a_terminal_shows_one_line_per_stage_and_one_bar(columns, monkeypatch):
    with terminal(monkeypatch, columns=columns) as shown:
        work()
    assert shown.screen == LINES
    assert "\x1b" not in shown.text
    assert max(map(len, shown.states)) <= columns
    bars = [state for state in shown.states if state not in LINES]
    assert all(bar.startswith(("1/4 Decoding mnist: ", "3/4 sweep: ", "3/4 stream: ")) for bar in bars)
    assert any(bar.endswith("| 2.00k/3.00k, 00:00 left, alpha 1") and "67%|██" in bar for bar in bars)
    assert "3/4 stream: 2 in 00:00" in bars


def test_a_terminal_without_unicode_gets_ascii(monkeypatch):
    with terminal(monkeypatch, encoding="ascii") as shown:
        work()
    assert shown.screen == LINES
    assert any("67%|##" in state for state in shown.states)


@pytest.mark.parametrize("pause", [180.0, 0.0])
def test_a_file_gets_a_line_per_stage_and_others_now_and_then(pause, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", pause)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    work()
    text = sys.stderr.getvalue()
    assert "\r" not in text
    assert "\x1b" not in text
    lines = text.splitlines()
    if pause:
        assert lines == LINES
    else:
        assert "1/4 Decoding mnist: 50 %, 2 of 4, 00:00 left" in lines
        assert "3/4 sweep: 67 %, 2.00k of 3.00k, 00:00 left, alpha 1" in lines
        assert not any("inner" in line for line in lines)


def test_a_dumb_terminal_is_like_a_file(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with terminal(monkeypatch) as shown:
        work()
    assert shown.states == LINES


def test_lines_can_be_asked_for_on_a_terminal(monkeypatch):
    with terminal(monkeypatch) as shown, progress():
        work(most=Display.LINES)
    assert shown.states == LINES


@pytest.mark.parametrize("hide", ["as asked", "another process"])
def test_nothing_is_shown(hide, monkeypatch):
    if hide == "another process":
        monkeypatch.setenv("RANK", "1")
    with terminal(monkeypatch) as shown, progress(Display.BAR if hide != "as asked" else Display.HIDDEN):
        work()
    assert shown.text == ""


def test_an_error_leaves_no_bar_and_bars_are_as_before(monkeypatch):
    with terminal(monkeypatch) as shown:
        with pytest.raises(KeyError), progress():
            for _ in tqdm(range(3), "broken"):
                raise KeyError
        list(tqdm([1], "later"))
    assert [line.partition(":")[0] for line in shown.screen] == ["later"]
    assert "1/1 [" in shown.screen[0]  # tqdm's own format


def test_a_bar_that_is_disabled_stays_so(monkeypatch):
    with terminal(monkeypatch) as shown, progress():
        list(tqdm([1], "off", disable=True))
        list(tqdm([1], "unless a terminal", disable=None))
    assert "off" not in shown.text
    assert "unless a terminal" in shown.text


def test_a_notebook_gets_one_bar(monkeypatch):
    monkeypatch.setattr(module.autonotebook, "tqdm", object())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    work()
    assert "2.00k/3.00k" in sys.stderr.getvalue()
    assert "inner" not in sys.stderr.getvalue()
