"""Names of classes: when two spellings are the same name, and which names are numbers."""

import re
from collections import Counter
from collections.abc import Sequence
from unicodedata import category, normalize


_BETWEEN_DIGITS = re.compile(r"(?<=\d)[\W_]+(?=\d)")
_MINUS = re.compile(r"[-\u2212]\d")
_NO_PART = "\u2212\ufe0e\ufe0f"  # the minus sign, and whether an emoji is in colour
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def spelled(name: str) -> str:
    r"""Return a name in Unicode's composed form (NFC), in which each letter with its accents has one spelling.

    Example:
        >>> spelled("cafe\u0301") == "caf\u00e9"
        True
    """
    return normalize("NFC", name)


def short_form(name: str) -> str:
    """Return a name in lower case, without spaces and punctuation, to match names that are written differently.

    What tells words apart is kept: accents and vowel signs, symbols like the `+` of C++ and emoji, the sign
    of a number and a mark between digits (-1 is not 1, and 1.5 is not 15).

    Example:
        >>> short_form("Sea-Green!"), short_form("C++"), short_form("-1"), short_form("1.5 m")
        ('seagreen', 'c++', '-1', '1.5m')
    """
    text = spelled(spelled(name).casefold()).strip()
    parts = (filter(_is_part_of_word, part) for part in _BETWEEN_DIGITS.split(text))
    return ("-" if _MINUS.match(text) else "") + ".".join(map("".join, parts))


def _is_part_of_word(character: str) -> bool:
    if character in _NO_PART:
        return False
    return character.isalnum() or category(character)[0] in "MS"  # marks, which may be vowels, and symbols


def number_of(name: str) -> int | float | None:
    """Return the number that a name is in digits, or None for any other name.

    Example:
        >>> number_of("007"), number_of("-2.5"), number_of("seven"), number_of("1_000")
        (7, -2.5, None, None)
    """
    text = name.strip()
    if not _NUMBER.fullmatch(text):
        return None
    return float(text) if "." in text else int(text)


def as_words(names: Sequence[str]) -> tuple[str, ...]:
    """Return names with spaces for underscores; names that would become equal stay as they are.

    Example:
        >>> as_words(["polka_dotted", "t-shirt", "a_b", "a b"])
        ('polka dotted', 't-shirt', 'a_b', 'a b')
    """
    words = [" ".join(name.replace("_", " ").split()) or name for name in names]
    counts = Counter(words)
    return tuple(word if counts[word] == 1 else name for name, word in zip(names, words, strict=True))
