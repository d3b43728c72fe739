"""Checks that numbers and switches among the fields of a dataclass are numbers and switches."""

from dataclasses import fields
from numbers import Real
from types import NoneType, UnionType
from typing import Union, get_args, get_origin, get_type_hints

import numpy as np

from hf_paint.errors import InputError


def check_field_types(settings: object) -> None:
    """Check the fields that take only numbers, or only true and false; other types are left to whoever reads them.

    Text like "false" would count as true, and "1e-4" would fail far from where it was written.

    Raises:
        InputError: If a field has another value.

    Example:
        >>> check_field_types(PaintTrainingArguments(output_dir="run", use_cpu=True, learning_rate=1e-4))
    """
    for name, (kinds, what) in _kinds(type(settings)).items():
        value = getattr(settings, name)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise InputError(f"`{name}` must be {what}, got {value!r}.")


def _kinds(settings: type) -> dict[str, tuple[tuple[type, ...], str]]:
    """Return the types that a field accepts, for the fields of numbers and of true and false."""
    hints, found = get_type_hints(settings), {}
    for name in (f.name for f in fields(settings) if f.init):
        hint = hints[name]
        kinds = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
        empty = (NoneType,) if NoneType in kinds else ()
        if kinds - {NoneType} == {bool}:
            found[name] = ((bool, np.bool_, *empty), "True or False")
        elif kinds - {NoneType} in ({int}, {float}):
            found[name] = ((Real, *empty), "a number")
    return found
