"""What the user gave cannot be used: one error type, and the nearest name to suggest."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """An input that cannot be used: a name, a file, a column, a shape.

    The message says what was given, what was expected and what to do. The command line prints it as one line and ends
    with exit code 2; from Python it is a `ValueError`.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'mnist'?"` for the known name nearest to `name`, or an empty string."""
    nearest = get_close_matches(name, list(known), n=1)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
