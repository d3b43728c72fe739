"""Errors with one-line messages: invalid input, and failures outside the program; and warnings that are said once."""

import logging
import os
from collections.abc import Iterable
from difflib import get_close_matches


RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""Environment variables in which launchers tell a process its number."""
logger: logging.Logger = logging.getLogger(__name__)
_said: set[str] = set()


class InputError(ValueError):
    """Invalid input: a wrong name, file, column or shape.

    The message says what was given, what was expected and what to do, on one line, whatever was given. On the command
    line, the exit code is 2. In Python, this is a `ValueError`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class JobError(RuntimeError):
    """A failure caused by neither the program nor its input: a network error, missing permissions or a full disk.

    The message says how far the job got and what to do, on one line. On the command line, the exit code is 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


def one_line(error: BaseException | str, *, limit: int | None = 300) -> str:
    """Return the text of an error on one line, cut to `limit` characters, or whole if that is None."""
    text = " ".join(str(error).split())
    return text if limit is None or len(text) <= limit else f"{text[: limit - 3]}..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'mnist'?"` with the known name closest to `name`, or an empty string if none is close."""
    nearest = get_close_matches(name, list(known), n=1)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""


def is_first_process() -> bool:
    """Return whether this is the process that speaks for all that a launcher has started."""
    return next((os.environ[name] for name in RANK if name in os.environ), "0") == "0"


def warn_once(message: str) -> None:
    """Log a warning, unless this process has logged it before or another process speaks for it.

    A run loads each split several times, in several processes, and each time finds the same things to say.
    """
    _say(logging.WARNING, message)


def inform_once(message: str) -> None:
    """Log a message that is no warning, by the same rule."""
    _say(logging.INFO, message)


def _say(level: int, message: str) -> None:
    if message not in _said and is_first_process():
        logger.log(level, "%s", message)
    _said.add(message)
