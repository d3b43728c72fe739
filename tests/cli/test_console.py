"""What the command line prints: hf_paint's lines, each warning once, one process, and bars on a terminal only."""

import io
import logging
import sys
import warnings

import pytest
from tqdm import tqdm

from hf_paint.cli import console as module
from hf_paint.cli.console import console, say


def speak():
    """Log and warn as a run and the libraries below it do."""
    for _ in range(2):
        logging.getLogger("hf_paint.data").warning("three pictures are skipped")
        logging.getLogger("hf_paint.patching").info("theta_1: kept.")
        logging.getLogger("httpx2").info('HTTP Request: GET https://huggingface.co "HTTP/1.1 200 OK"')
        logging.getLogger("another.client").info("HTTP Request")
        warnings.warn("an old argument", FutureWarning, stacklevel=1)
        list(tqdm([1]))


def test_lines_of_hf_paint_and_each_warning_once(capsys):
    with console():
        speak()
    shown = capsys.readouterr().err
    assert shown.count("three pictures are skipped") == 1
    assert shown.count("theta_1: kept.") == 2
    assert shown.count("FutureWarning: an old argument") == 1
    assert "HTTP" not in shown
    assert "1/1" not in shown  # not a terminal


def test_a_library_that_prints_its_own_records_is_not_printed_twice(capsys):
    library = logging.getLogger("a_library")
    with console():
        handler = logging.StreamHandler()
        library.addHandler(handler)  # as it is imported
        for seconds in (1, 1, 2):
            logging.getLogger("a_library.http").warning("Retrying in %ds", seconds)
    shown = capsys.readouterr().err.splitlines()
    assert shown == ["Retrying in 1s", "Retrying in 2s"]
    assert library.handlers == [handler]
    library.removeHandler(handler)


def test_warnings_about_which_users_can_do_nothing_are_not_shown(capsys):
    with console():
        warnings.warn("'pin_memory' argument is set as true but no accelerator is found, then", stacklevel=1)
        warnings.warn("`is_gradient_checkpointing` is deprecated and will", FutureWarning, stacklevel=1)
    assert capsys.readouterr().err == ""


def test_bars_are_shown_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("hf_paint.results.progress.DELAY", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with console():
        speak()
    assert "| 0/1" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["RANK", "OMPI_COMM_WORLD_RANK"])
def test_only_the_main_process_speaks(variable, capsys, monkeypatch):
    monkeypatch.setenv(variable, "1")
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with console():
        speak()
    assert capsys.readouterr().err == ""
    say("hf-paint: image 3 cannot be read")
    assert waits == [module.TIME_TO_END_THE_JOB]
    assert capsys.readouterr().err == "hf-paint: image 3 cannot be read\n"


def test_logging_is_as_before_afterwards():
    root, own = logging.getLogger(), logging.getLogger("hf_paint")
    before = (list(root.handlers), root.level, own.level, logging.root.manager.disable, warnings.showwarning)
    with pytest.raises(KeyError), console():
        raise KeyError
    assert (list(root.handlers), root.level, own.level, logging.root.manager.disable, warnings.showwarning) == before


def test_characters_that_a_stream_lacks_are_escaped(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    with console():
        out.write("caf\u00e9 \u00b1\n")
        out.flush()
    assert out.buffer.getvalue() == b"caf\\xe9 \\xb1\n"
