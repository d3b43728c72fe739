"""What can go wrong in one clear line: what the user gave, or something outside of the program."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """An input that cannot be used: a name, a file, a column, a shape.

    The message says what was given, what was expected and what to do. The command line prints it as one line and ends
    with exit code 2; from Python it is a `ValueError`.
    """


class JobError(RuntimeError):
    """A job that failed for a reason outside of the program and of what it was given: the network, rights, a disk.

    The message says how far it came and what to do. The command line prints it as one line and ends with exit code 1.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'mnist'?"` for the known name nearest to `name`, or an empty string."""
    nearest = get_close_matches(name, list(known), n=1)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
