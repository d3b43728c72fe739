"""Errors that fit on one line: bad input, and failures outside of the program."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """An input that cannot be used: a name, a file, a column, a shape.

    The message states what was given, what was expected and what to do. The command line prints it on one line and
    exits with code 2; in Python it is a `ValueError`.
    """


class JobError(RuntimeError):
    """A failure caused by neither the program nor its input: the network, missing rights, a full disk.

    The message states how far the job got and what to do. The command line prints it on one line and exits with code
    1.
    """


def one_line(error: BaseException | str, *, limit: int = 300) -> str:
    """Return the text of an error on one line, cut to `limit` characters."""
    return " ".join(str(error).split())[:limit]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'mnist'?"` for the known name nearest to `name`, or an empty string."""
    nearest = get_close_matches(name, list(known), n=1)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
