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


NOT_FOR_USERS = (
    "'pin_memory' argument is set as true but no accelerator",  # torch, on a CPU
    "`is_gradient_checkpointing` is deprecated",  # transformers, of a call by peft
)
"""How warnings begin of which users of hf_paint are not the cause, and about which they can do nothing."""
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
        for message in NOT_FOR_USERS:
            warnings.filterwarnings("ignore", message)
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
            handler.give_back()
            own.setLevel(levels[0])
            root.setLevel(levels[1])
            logging.disable(levels[2])


class _Lines(logging.Handler):
    """Prints log records to stderr, above any progress bar, and each warning only once.

    Some libraries print their records themselves. The handler lets them print the first one, and then takes over.
    """

    def __init__(self) -> None:
        super().__init__()
        self.warned: set[str] = set()
        self.taken: list[tuple[logging.Logger, logging.Handler]] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record).rstrip()
        is_printed = self._take_over(record.name)
        if record.levelno >= logging.WARNING:
            is_printed |= line in self.warned
            self.warned.add(line)
        if not is_printed:
            tqdm.write(line, file=sys.stderr)

    def _take_over(self, name: str) -> bool:
        """Remove handlers that print records of this logger, and return whether there were any."""
        logger: logging.Logger | None = logging.getLogger(name)
        before = len(self.taken)
        while logger is not None and logger is not logging.getLogger():
            own = [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
            for handler in own:
                logger.removeHandler(handler)
                self.taken.append((logger, handler))
            logger = logger.parent
        return len(self.taken) > before

    def give_back(self) -> None:
        """Let the libraries print their records themselves again."""
        while self.taken:
            logger, handler = self.taken.pop()
            logger.addHandler(handler)
