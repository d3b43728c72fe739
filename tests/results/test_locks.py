"""One process works in a run folder, or any number of processes read it."""

import subprocess
import sys
from contextlib import contextmanager

import pytest

from hf_paint import InputError
from hf_paint.results.locks import LOCK, check_idle, reading, working_in


HOLD = "import fcntl, sys; f = open(sys.argv[1], 'a+'); fcntl.flock(f, fcntl.{}); print('held', flush=True); input()"


@contextmanager
def held_by_another_process(folder, how):
    arguments = [sys.executable, "-S", "-c", HOLD.format(how), str(folder / LOCK)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        yield
        process.stdin.write("\n")


def test_readers_share_a_folder(tmp_path):
    with held_by_another_process(tmp_path, "LOCK_SH"), reading(tmp_path), reading(tmp_path):
        check_idle(tmp_path)
    with working_in(tmp_path):
        pass


def test_nobody_works_in_a_folder_that_is_read(tmp_path):
    with held_by_another_process(tmp_path, "LOCK_SH"), pytest.raises(InputError, match="Another process is using"):
        working_in(tmp_path).__enter__()


def test_nobody_reads_a_folder_in_which_a_process_works(tmp_path):
    with held_by_another_process(tmp_path, "LOCK_EX"):
        for read in (lambda: check_idle(tmp_path), lambda: reading(tmp_path).__enter__()):
            with pytest.raises(InputError, match="Another process is using"):
                read()
    check_idle(tmp_path)


def test_looking_whether_a_folder_is_in_use_leaves_nothing(tmp_path):
    check_idle(tmp_path)
    assert not list(tmp_path.iterdir())
