"""Functions that run in a fork of the test process: it has imported everything, for which a new one takes seconds."""

import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path


SECONDS = 300  # no fork takes as long, even on a busy machine


def start_fork(function, *arguments, output=os.devnull, environment: Mapping[str, str] | None = None):
    """Start a fork that calls a function, whose result is its exit code, and return the process.

    Args:
        function: What to call; as in any other process, an exception makes the exit code 1.
        arguments: Arguments of the function.
        output: File for its stdout and stderr.
        environment: Environment variables to set.
    """

    def run():
        sys.stdout = sys.stderr = Path(output).open("w", encoding="utf-8")
        for number in (1, 2):
            os.dup2(sys.stdout.fileno(), number)
        os.environ.update(environment or {})
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
