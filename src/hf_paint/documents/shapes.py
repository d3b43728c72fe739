"""The shape that a JSON value must have, given as a type: of a `TypedDict`, a dataclass, a list, a number, ..."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, TypeAlias, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from hf_paint.documents.limits import MOST_BYTES
from hf_paint.documents.reading import read_json
from hf_paint.errors import InputError, one_line


Shape = TypeVar("Shape")
Check: TypeAlias = Callable[[object], str | None]
"""Returns what is wrong with a value, as `.key[3] must be a number, got 'x'`, or None."""
SIMPLE: Mapping[object, tuple[tuple[type, ...], str]] = {
    NoneType: ((NoneType,), "null"),
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a text"),
}
"""Type -> types of the values that fit, and the words for it."""
MOST = 2**63
"""Bound of whole numbers, which arrays hold in 64 bits."""
MOST_SHOWN = 60


def read_shaped(
    path: Path, shape: type[Shape], *, advice: str = "Remove this file.", limit: int = MOST_BYTES
) -> Shape | None:
    """Read a JSON file whose content has a shape, or return None if the file does not exist.

    Args:
        path: Path to the file.
        shape: Type of the content (see `problem_of`).
        advice: What to do about a damaged file, as a sentence.
        limit: Size of the largest file that is read, in bytes.

    Raises:
        InputError: If the content does not have the shape.
    """
    try:
        value = read_json(path, limit=limit)
    except InputError as error:
        raise InputError(f"{error} {advice}") from error
    return None if value is None else shaped(value, shape, str(path), advice=advice)


def shaped(value: object, shape: type[Shape], what: str, *, advice: str) -> Shape:
    """Return a value that has a shape.

    Args:
        value: A value from JSON or YAML.
        shape: Type of the value (see `problem_of`).
        what: What holds the value, for the message, e.g. a path.
        advice: What to do, as a sentence.

    Raises:
        InputError: If the value does not have the shape.
    """
    if not _has_shape(value, shape):
        raise InputError(f"{what} is damaged: {problem_of(value, shape)}. {advice}")
    return value


def problem_of(value: object, shape: object) -> str | None:
    """Return what is wrong with a value that must have a shape, or None.

    Args:
        value: A value from JSON or YAML. Numbers must be finite; keys that the shape does not name are ignored.
        shape: `None`, `bool`, `int`, `float`, `str`, `object` (anything), a `Literal`, a list or sequence, a mapping
            with text keys, a tuple (a list of that length), a union, a `TypedDict` or a dataclass (a mapping), or a
            class whose attribute `stored_as` is one of these.

    Example:
        >>> problem_of({"alpha": [0.5, "1"]}, dict[str, list[float]])
        "`alpha[1]` must be a number, got '1'"
    """
    found = _check_of(shape)(value)
    if found is None:
        return None
    place, _, rest = found.partition(" must be ")
    return f"`{place.removeprefix('.')}` must be {rest}" if place else f"it must be {rest}"


def _has_shape(value: object, shape: type[Shape]) -> TypeGuard[Shape]:
    return problem_of(value, shape) is None


@cache
def _check_of(shape: object) -> Check:
    origin, args = get_origin(shape), get_args(shape)
    shape = NoneType if shape is None else shape
    if shape is object:
        return lambda value: None
    if origin is Literal:
        known, words = {(type(arg), arg) for arg in args}, " or ".join(map(repr, args))
        return lambda value: (
            None if isinstance(value, (str, int)) and (type(value), value) in known else _not(words, value)
        )
    if origin in (Union, UnionType):
        return _union([_check_of(arg) for arg in args])
    if origin is tuple:
        return _tuple([_check_of(arg) for arg in args])
    if origin in (list, Sequence):
        return _list(_check_of(args[0]))
    if origin in (dict, Mapping):
        return _mapping(_check_of(args[1]))
    if is_typeddict(shape) or is_dataclass(shape):
        return _keys(*_fields(shape))
    return _simple(*SIMPLE[shape]) if shape in SIMPLE else _check_of(shape.stored_as)  # type: ignore[attr-defined]


def _not(words: str, value: object) -> str:
    return f" must be {words}, got {one_line(repr(value), limit=MOST_SHOWN)}"


def _simple(types: tuple[type, ...], words: str) -> Check:
    def check(value: object) -> str | None:
        """Return what is wrong, or None if a value is of these types and in bounds."""
        fits = isinstance(value, types) and (bool in types or not isinstance(value, bool))
        fits = fits and (not isinstance(value, int) or abs(value) < MOST)
        return None if fits and (not isinstance(value, float) or math.isfinite(value)) else _not(words, value)

    return check


def _union(checks: Sequence[Check]) -> Check:
    def check(value: object) -> str | None:
        """Return what is wrong, or None if a value passes one of the checks."""
        found = [check(value) for check in checks]
        if None in found:
            return None
        own = [text for text in found if text is not None and not text.startswith(" must be ")]  # in a part of it
        words = " or ".join(text.removeprefix(" must be ").partition(", got ")[0] for text in found if text)
        return own[0] if own else _not(words, value)

    return check


def _list(part: Check) -> Check:
    def check(value: object) -> str | None:
        """Return what is wrong, or None if a value is a list whose items pass."""
        if not isinstance(value, (list, tuple)):
            return _not("a list", value)
        return next((f"[{i}]{text}" for i, text in enumerate(map(part, value)) if text is not None), None)

    return check


def _tuple(parts: Sequence[Check]) -> Check:
    def check(value: object) -> str | None:
        """Return what is wrong, or None if a value is a list of this length whose items pass."""
        if not isinstance(value, (list, tuple)) or len(value) != len(parts):
            return _not(f"a list of {len(parts)}", value)
        found = (part(item) for part, item in zip(parts, value, strict=True))
        return next((f"[{i}]{text}" for i, text in enumerate(found) if text is not None), None)

    return check


def _mapping(part: Check) -> Check:
    def check(value: object) -> str | None:
        """Return what is wrong, or None if a value maps strings to what passes."""
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            return _not("keys and values", value)
        found = ((key, part(item)) for key, item in value.items())
        return next((f".{key}{text}" for key, text in found if text is not None), None)

    return check


def _keys(checks: Mapping[str, Check], required: frozenset[str]) -> Check:
    def check(value: object) -> str | None:
        """Return what is wrong, or None if a value has the keys, with values that pass."""
        if not isinstance(value, Mapping):
            return _not("keys and values", value)
        for key, part in checks.items():
            if key not in value:
                if key in required:
                    return f".{key} must be there"
            elif (text := part(value[key])) is not None:
                return f".{key}{text}"
        return None

    return check


def _fields(shape: object) -> tuple[dict[str, Check], frozenset[str]]:
    """Return the check of each field of a `TypedDict` or dataclass, and the fields without a default."""
    checks = {name: _check_of(hint) for name, hint in get_type_hints(shape).items()}
    if is_typeddict(shape):
        return checks, shape.__required_keys__  # type: ignore[attr-defined]
    own = [field for field in fields(shape) if field.init]  # type: ignore[arg-type]
    required = {field.name for field in own if field.default is MISSING and field.default_factory is MISSING}
    return {field.name: checks[field.name] for field in own}, frozenset(required)
