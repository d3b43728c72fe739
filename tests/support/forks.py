"""Functions that run in a fork of the test process: it has imported everything, for which a new one takes seconds."""

import multiprocessing
import os
import sys
from pathlib import Path


SECONDS = 300  # no fork takes as long, even on a busy machine


def start_fork(function, *arguments):
    """Start a fork that calls a function, whose result is its exit code, and return the process.

    An exception makes the exit code 1, as in any other process. What the function prints is dropped.
    """

    def run():
        with Path(os.devnull).open("w", encoding="utf-8") as nothing:
            sys.stdout = sys.stderr = nothing
            for number in (1, 2):
                os.dup2(nothing.fileno(), number)
            sys.exit(function(*arguments))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def exit_code(process):
    """Wait until a fork ends, and return its exit code: negative if a signal ended it."""
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"a fork was still running after {SECONDS} seconds")
    return process.exitcode
