"""Ctrl+C and SIGTERM end a command within seconds, in one line, wherever they strike."""

import gc
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from torch.utils.data import DataLoader

from forked_calls import Fork
from hf_paint.cli import main, signals
from hf_paint.cli.signals import until_interrupted
from hf_paint.data.threads import in_threads


LINE = "hf-paint: interrupted; run the same command again to resume"


def strike(number=signal.SIGINT):
    os.kill(os.getpid(), number)
    for _ in range(1000):  # Python looks for signals between instructions
        pass


class StruckWhenFreed:
    def __del__(self):
        strike()


def swallowed_by_a_destructor():
    StruckWhenFreed()
    time.sleep(60)
    return 0


def swallowed_by_a_callback():
    gc.callbacks.append(lambda *_: strike() if not struck else None)
    struck = []
    gc.collect()
    struck.append(True)
    time.sleep(60)
    return 0


def swallowed_by_an_except_clause():
    for _ in range(3):
        try:
            strike()
        except BaseException:
            continue
    time.sleep(60)
    return 0


def turned_into_another_error():
    try:
        strike()
    except BaseException as error:
        raise RuntimeError("a library failed") from error
    return 0


def held_up_by_a_lock():
    lock = threading.Lock()
    try:
        strike()
    finally:
        lock.acquire()
        lock.acquire()
    return 0


def held_up_by_a_decoding_thread():
    threading.Timer(0.1, strike).start()
    return len(list(in_threads(time.sleep, [60] * 8)))


def held_up_in_c():
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
    return 0


def in_the_command():
    strike()
    return 0


PLACES = {
    function.__name__: function
    for function in (
        *(swallowed_by_a_destructor, swallowed_by_a_callback, swallowed_by_an_except_clause),
        *(turned_into_another_error, held_up_by_a_lock, held_up_by_a_decoding_thread, held_up_in_c, in_the_command),
    )
}


def soon(function):
    """A function that ends a second after a signal at the latest, where users wait for four."""

    def call():
        signals.TIME_TO_END = 1.0
        return until_interrupted(function)

    return call


@pytest.fixture(scope="module")
def struck():
    """The exit code and the output of each, which run side by side."""
    forks = {name: Fork(soon(function)) for name, function in PLACES.items()}
    return {name: fork.wait(40) for name, fork in forks.items()}


@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_is_never_lost(struck, place):
    code, printed = struck[place]
    assert code == 130
    assert printed.split("\n") == [*[""] * printed.startswith("\n"), LINE, ""]


def until_signalled():
    print("started", flush=True)
    time.sleep(60)
    return 0


def test_sigterm_is_told_and_ends_in_its_own_code():
    fork = Fork(lambda: until_interrupted(until_signalled))
    fork.wait_for("started")
    fork.signal(signal.SIGTERM)
    assert fork.wait(40) == (143, f"started\n{LINE}\n")


def unwinding_for_long():
    try:
        until_signalled()
    finally:
        print("unwinding", flush=True)
        threading.Event().wait(60)
    return 0


def test_a_second_ctrl_c_ends_at_once_and_a_launchers_sigterm_does_not():
    forks = [Fork(lambda: until_interrupted(unwinding_for_long)) for _ in range(2)]
    for fork in forks:
        fork.wait_for("started")
        fork.signal(signal.SIGINT)
        fork.wait_for("unwinding")
    time.sleep(0.3)
    second = time.monotonic()
    for fork, number in zip(forks, (signal.SIGINT, signal.SIGTERM), strict=True):
        fork.signal(number)
    code, printed = forks[0].wait(40)
    assert code == 130
    assert time.monotonic() - second < 3  # less than what it would wait for
    assert printed.count(LINE) == 1
    forks[1].wait_for("unwinding")
    assert "interrupted" not in forks[1].output()
    forks[1].signal(signal.SIGINT)
    assert forks[1].wait(40)[0] == 130


def test_only_the_first_process_of_a_launcher_speaks():
    def second():
        os.environ["RANK"] = "1"
        return until_interrupted(in_the_command)

    assert Fork(second).wait(40) == (130, "")


def test_what_nohup_ignores_stays_ignored():
    def ignoring():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return until_interrupted(lambda: strike() or 7)

    assert Fork(ignoring).wait(40) == (7, "")


class SlowRows(torch.utils.data.Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, index):
        if index == 4:
            print("worker", os.getpid(), flush=True)
            time.sleep(60)
        return torch.zeros(())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_dataloader_workers_end_with_their_parent_and_say_nothing(number):
    fork = Fork(lambda: until_interrupted(lambda: len(list(DataLoader(SlowRows(), num_workers=2)))))
    fork.wait_for("worker")
    worker = int(re.search(r"worker (\d+)", fork.output())[1])
    if number == signal.SIGINT:
        os.kill(worker, number)  # Ctrl+C goes to the workers, too
    fork.signal(number)
    code, printed = fork.wait(40)
    assert code == (130 if number == signal.SIGINT else -number)
    assert re.sub(r"worker \d+\n", "", printed) == (f"{LINE}\n" if number == signal.SIGINT else "")
    wait_until_ended(worker)


def wait_until_ended(process, seconds=40):
    """Wait until a process that is no child has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError(f"{process} is still there")


def test_a_signal_after_the_end_ends_the_process_without_a_traceback():
    program = """
import signal, sys, threading, time
from hf_paint.cli import main

def strike():
    threading.main_thread().join()
    time.sleep(0.5)  # until it waits for this thread
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # as the system does with a Ctrl+C
    time.sleep(60)

threading.Thread(target=strike).start()
sys.exit(main(["tasks", "mnist"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (130, "")
    assert "mnist" in done.stdout


def test_a_program_that_calls_the_command_handles_signals_as_before(capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert main(["tasks", "mnist"]) == 0
    with pytest.raises(KeyboardInterrupt):
        strike()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGTERM, before)


WITHOUT_POSIX = """
import ctypes, os, select, signal, sys
del os.fork, os.register_at_fork, os.set_blocking, select.poll, signal.pthread_kill
LIBRARY = ctypes.CDLL
def load(name, *arguments, **options):
    if name is None:
        raise TypeError("LoadLibrary() argument 1 must be str, not None")
    return LIBRARY(name, *arguments, **options)
ctypes.CDLL = load
import hf_paint.cli.tasks
from hf_paint.cli import main
def interrupt(*_):
    raise {error}
hf_paint.cli.tasks.run = interrupt
sys.exit(main(["tasks"]))
"""


@pytest.mark.parametrize(("error", "code"), [("KeyboardInterrupt", 130), ("BrokenPipeError(32, 'Broken pipe')", 1)])
def test_windows_has_neither_signals_nor_forks(error, code):
    program = WITHOUT_POSIX.format(error=error)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == code
    assert done.stderr.startswith(LINE if code == 130 else "hf-paint: the network failed")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("error", ["ConnectionResetError", "EOFError", "ValueError"])
def test_a_worker_says_nothing_of_a_parent_that_has_ended(error):
    """Its thread that hands tensors to the parent may be in the middle of it."""
    program = f"""
import os, sys
from hf_paint.cli.signals import until_interrupted
def fork():
    if not os.fork():
        try:
            raise {error}
        except Exception:
            sys.excepthook(*sys.exc_info())
        os._exit(0)
    os.wait()
    return 0
sys.exit(until_interrupted(fork))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert ("Traceback" in done.stderr) == (error == "ValueError")
