"""Limits of the documents that are read."""

MOST_BYTES = 2**24
"""Size of the largest document that is read."""
MOST_LEVELS = 100
"""Levels of the deepest document that is read."""
MOST_DIGITS = 30
"""Digits of the longest whole number that is read."""
MOST_NODES = 200_000
"""Number of values of the largest YAML document that is read, with those that its aliases (`*name`) stand for."""
TOO_DEEP = f"it is nested more than {MOST_LEVELS} levels deep"


def check_digits(number: str) -> None:
    """Raise a `ValueError` if a number has too many digits, so that arithmetic with it would overflow or take long."""
    if len(number) > MOST_DIGITS:
        raise ValueError(f"a number has {len(number)} digits; at most {MOST_DIGITS} are read")


def check_text(text: str) -> None:
    """Raise a `ValueError` for a text that cannot be written to a file or be part of a path."""
    if "\0" in text or "\\u0000" in text:
        raise ValueError("a text contains the character NUL")
    text.encode()  # not possible with half a surrogate pair
