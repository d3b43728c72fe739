"""Calls in a forked process: as killable as a real one, and started at once, since everything is imported."""

import contextlib
import os
import select
import signal
import sys
import tempfile
import time
import traceback
import weakref


class Fork:
    """A process that calls a function and exits with the code that it returns."""

    def __init__(self, function):
        self.started = time.monotonic()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (no name: nothing is left, whatever happens)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _call(function, self._output.fileno())
        self._ended = os.pidfd_open(self.pid)
        weakref.finalize(self, os.close, self._ended)

    def signal(self, number):
        """Send a signal, unless the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._ended, number)

    def ends_within(self, seconds):
        """Whether the process ends within some seconds."""
        return bool(select.select([self._ended], [], [], seconds)[0])

    def wait(self, seconds=60):
        """Return the exit code, negative if a signal has ended the process, and what it has printed."""
        if not self.ends_within(seconds):
            self.signal(signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise TimeoutError(f"the process was still there after {seconds} s:\n{self.output()}")
        _, status = os.waitpid(self.pid, 0)
        self.seconds = time.monotonic() - self.started
        return os.waitstatus_to_exitcode(status), self.output()

    def output(self):
        """What it has printed so far, stdout and stderr together."""
        handle = self._output.fileno()
        return os.pread(handle, os.fstat(handle).st_size, 0).decode(errors="replace")

    def wait_for(self, text, seconds=60):
        """Wait until it has printed a text."""
        end = time.monotonic() + seconds
        while text not in self.output():
            if time.monotonic() > end or select.select([self._ended], [], [], 0.005)[0]:
                raise AssertionError(f"never printed {text!r}:\n{self.output()}")


def _call(function, handle):
    """Call the function as a program does that has just been started, and end the process."""
    code = 99
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1, closefd=False)
        code = function()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
