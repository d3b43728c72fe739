"""What there is to say about a data set, said once: a run loads each split several times, in several processes."""

import logging

from accelerate.utils import get_int_from_env


RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""Environment variables in which launchers tell a process its number."""
logger = logging.getLogger(__name__)
_said: set[str] = set()


def warn_once(message: str) -> None:
    """Log a warning, unless this process has logged it before or another process speaks for all."""
    _say(logging.WARNING, message)


def inform_once(message: str) -> None:
    """Log a message that is no warning, by the same rule."""
    _say(logging.INFO, message)


def _say(level: int, message: str) -> None:
    if message not in _said and get_int_from_env(RANK, 0) == 0:
        logger.log(level, "%s", message)
    _said.add(message)
