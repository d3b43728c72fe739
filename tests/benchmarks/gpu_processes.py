"""Processes of the GPU check for tiny shapes: forks, which need no second import of torch and transformers."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch


class Fork(multiprocessing.get_context("fork").Process):
    """A fork of this process that calls a function, with the methods of `Popen` that the check uses.

    It computes with one thread, because those of another process do not survive a fork.

    Args:
        way: The function.
        log: The open file descriptor that takes what it prints.
        environment: Variables to set before.
        alone: Whether it leads a process group of its own.
    """

    def __init__(
        self, way: Callable[[], Any], log: int, *, environment: Mapping[str, str] | None = None, alone: bool = False
    ) -> None:
        super().__init__()
        self.way, self.log, self.environment, self.alone = way, log, environment or {}, alone
        self.start()

    def run(self) -> None:
        """Call the function."""
        if self.alone:
            os.setsid()
        for stream in (1, 2):
            os.dup2(self.log, stream)
        sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 (open until the end)
        os.environ.update(self.environment)
        torch.set_num_threads(1)
        self.way()

    @property
    def returncode(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.exitcode

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends, and return the exit code."""
        self.join(timeout)
        if self.exitcode is None:
            raise subprocess.TimeoutExpired("fork", timeout or 0)
        return self.exitcode
