"""Temporary folders: those of killed processes are removed, and only those."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.files import save_atomically
from hf_paint.results.locks import working_in
from hf_paint.temporary import _host, own_prefix, remove_leftovers, temporary_folder


PROGRAM = """
import sys, time
from pathlib import Path
from hf_paint.files import save_atomically

def save(path):
    path.write_text("half")
    print("written", flush=True)
    time.sleep(60)

save_atomically(Path(sys.argv[1]), save)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_rerun_removes_what_a_killed_process_left_but_not_what_another_is_writing(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "curve.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        [left] = names(tmp_path)
        remove_leftovers(tmp_path)
        assert names(tmp_path) == [left]
        process.kill()
        process.wait()
    assert names(tmp_path) == [left]
    save_atomically(tmp_path / "curve.json", lambda path: path.write_text("whole"))
    assert names(tmp_path) == ["curve.json"]


def test_an_earlier_process_of_the_same_number_is_not_this_one(tmp_path):
    with temporary_folder(tmp_path) as own:
        what, host, process, _, number = own.name.split("-")
        (tmp_path / "-".join((what, host, process, "00000000", number))).mkdir()
        remove_leftovers(tmp_path)
        assert names(tmp_path) == [own.name]


def test_what_was_left_after_the_last_write_goes_when_a_run_or_a_cache_is_used_again(tmp_path, monkeypatch):
    """A process that is killed between moving its file and removing the folder leaves an empty one."""
    what, host, *_ = own_prefix("partial").split("-")
    left = f"{what}-{host}-{2**22 + 1}-00000000-0"  # Linux numbers no process that high
    run, cache = tmp_path / "run", tmp_path / "cache"
    for place in (run / "checkpoint-2" / left, cache / "scans" / left):
        place.mkdir(parents=True)
    monkeypatch.setenv("HF_PAINT_CACHE", str(cache))
    with working_in(run):
        assert names(run / "checkpoint-2") == []
    assert names(default_cache_dir() / "scans") == []


def test_folders_of_another_machine_stay_for_a_day(tmp_path):
    other = tmp_path / ".partial-00000000-1-00000000-0"
    other.mkdir()
    remove_leftovers(tmp_path)
    assert other.exists()
    yesterday = time.time() - 25 * 60 * 60
    os.utime(other, (yesterday, yesterday))
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path, error):
    def save(path: Path):
        path.write_text("half")
        path.with_name(".tmpXyZ").write_text("of a library")
        raise error

    with pytest.raises(error):
        save_atomically(tmp_path / "a" / "x.npy", save)
    assert names(tmp_path / "a") == []


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    name = f"{'x' * 251}.npy"
    save_atomically(tmp_path / name, lambda path: path.write_text("whole"))
    assert names(tmp_path) == [name]


def test_folders_of_another_container_of_this_machine_stay_for_a_day(tmp_path, monkeypatch):
    def leave(number):
        what, host, _, token, _ = own_prefix("partial").split("-")
        folder = tmp_path / f"{what}-{host}-{2**22 + 1}-{token}-{number}"  # the number of no process here
        folder.mkdir()
        return folder

    own = leave(0)
    with monkeypatch.context() as patch:
        patch.setattr("hf_paint.temporary._host", _host.__wrapped__)  # which is remembered
        (tmp_path / "pid").symlink_to("pid:[1]")
        patch.setattr("hf_paint.temporary.PROCESSES", tmp_path / "pid")
        other = leave(1)
    remove_leftovers(tmp_path)
    assert (own.exists(), other.exists()) == (False, True)


def test_where_processes_cannot_be_asked_for_folders_stay_for_a_day(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_paint.temporary.KNOWS_PROCESSES", False)
    monkeypatch.setattr("os.kill", None)
    left = tmp_path / f"{own_prefix('partial').replace(f'-{os.getpid()}-', '-1-')}0"
    left.mkdir()
    remove_leftovers(tmp_path)
    assert left.exists()
