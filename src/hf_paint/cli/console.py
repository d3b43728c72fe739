"""What the command line prints while it runs: log lines of hf_paint, each warning once, and progress bars."""

import io
import logging
import os
import select
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

from tqdm import tqdm

from hf_paint.errors import is_first_process


TIME_TO_END_THE_JOB = 30
"""Seconds after which the launcher has ended the other processes if one of them failed."""


def say(line: str) -> None:
    """Print a last line to stderr, above any progress bar.

    Processes usually fail together, for the same reason. The main process says so; another one speaks only if the
    launcher has not ended it by then.
    """
    if not is_first_process():
        time.sleep(TIME_TO_END_THE_JOB)
    tqdm.write(line, file=sys.stderr)


def nobody_reads() -> bool:
    """Return whether the reader of stdout or stderr has ended, as `head` does, and write to nowhere from then on."""
    closed = [stream for stream in (sys.stdout, sys.stderr) if _is_closed(stream)]
    for stream in closed:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  (not a path)
            os.dup2(nowhere.fileno(), stream.fileno())
    return bool(closed)


def _is_closed(stream: TextIO) -> bool:
    if not hasattr(select, "poll"):  # as on Windows
        return False
    try:
        pipe = stream.fileno()
    except (OSError, ValueError):  # not a file
        return False
    poll = select.poll()
    poll.register(pipe, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextmanager
def console() -> Iterator[None]:
    """Print log lines and progress bars inside the block, on the main process only.

    It prints the lines of hf_paint and the warnings of all libraries, and progress as `hf_paint.results.progress`
    shows it. Characters that the encoding of a stream lacks are escaped.
    """
    from hf_paint.results.progress import progress

    main, own, root = is_first_process(), logging.getLogger("hf_paint"), logging.getLogger()
    handler, levels = _Lines(), (own.level, root.level, logging.root.manager.disable)
    with ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(progress())
        if not main:
            logging.disable(logging.WARNING)
            warnings.simplefilter("ignore")
        os.environ.setdefault("DATASETS_VERBOSITY", "critical")  # it logs errors that it also raises
        logging.getLogger("datasets").setLevel(logging.CRITICAL)
        logging.captureWarnings(True)
        stack.callback(logging.captureWarnings, False)
        own.setLevel(logging.INFO)
        root.setLevel(logging.WARNING)
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)
            own.setLevel(levels[0])
            root.setLevel(levels[1])
            logging.disable(levels[2])


class _Lines(logging.Handler):
    """Prints log records to stderr, above any progress bar, and each warning only once."""

    def __init__(self) -> None:
        super().__init__()
        self.warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record).rstrip()
        if record.levelno >= logging.WARNING:
            if line in self.warned:
                return
            self.warned.add(line)
        tqdm.write(line, file=sys.stderr)
