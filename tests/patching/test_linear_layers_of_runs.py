"""A run decides once which library multiplies, and a resumed one follows it."""

import pytest

from hf_paint.patching import run as module
from hf_paint.patching.run import PatchRun
from hf_paint.results.run_folder import RunFolder


@pytest.fixture
def decide(tmp_path, monkeypatch):
    """Decide as a run in one folder does, with a measurement that finds `measured`."""

    def decide(measured, given=None):
        monkeypatch.setattr(module, "measured_choice", lambda tower, device: measured)
        run = PatchRun.__new__(PatchRun)
        run.args = type("Arguments", (), {"onednn": given, "device": None})()
        run.base = type("Base", (), {"tower": lambda self: None})()
        run.folder = RunFolder(tmp_path, write=True)
        return run._decided().onednn

    return decide


@pytest.mark.parametrize("measured", [True, False])
def test_the_first_measurement_counts(decide, measured, tmp_path):
    assert decide(measured) is measured
    assert decide(not measured) is measured
    assert RunFolder(tmp_path, write=False).load_onednn() is measured


def test_what_is_given_counts(decide):
    assert decide(True, given=False) is False
    assert decide(None) is False


def test_nothing_is_recorded_if_there_is_nothing_to_choose(decide, tmp_path):
    assert decide(None) is None
    assert not list(tmp_path.iterdir())


def test_all_processes_read_what_is_known_before_one_writes_it(decide, monkeypatch):
    """A process that read it later would not take part in the measurement, and the others would wait for it."""
    calls = []
    monkeypatch.setattr(module, "wait_for_everyone", lambda: calls.append("wait"))
    for name in ("load_onednn", "save_onednn"):
        monkeypatch.setattr(RunFolder, name, lambda folder, *given, name=name: calls.append(name))
    decide(True)
    assert calls == ["load_onednn", "wait", "save_onednn"]
