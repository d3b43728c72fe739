"""What docstrings say of attributes and constants, read with griffe, which also reads them for the API pages."""

import inspect
from collections.abc import Iterable
from dataclasses import MISSING, Field
from enum import Enum
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import griffe


def described(kind: type) -> tuple[str, dict[str, str]]:
    """Return what the docstring of a class says of it, and of each attribute, also of those of its bases."""
    attributes: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        for section in _sections(part):
            if section.kind is griffe.DocstringSectionKind.attributes:
                attributes |= {attribute.name: attribute.description for attribute in section.value}
    prose = [part.value for part in _sections(kind) if part.kind is griffe.DocstringSectionKind.text]
    return "\n\n".join(prose), attributes


def _sections(kind: type) -> list[griffe.DocstringSection]:
    own = vars(kind).get("__doc__") or ""
    return griffe.parse_google(griffe.Docstring(inspect.cleandoc(own)), warnings=False)


def constants(module: ModuleType) -> dict[str, str]:
    """Return name -> docstring of the constants of a module that have one."""
    path = Path(str(module.__file__))
    found = griffe.visit(module.__name__, filepath=path, code=path.read_text(encoding="utf-8"))
    return {name: member.docstring.value for name, member in found.attributes.items() if member.docstring}


WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", dict: "mapping", NoneType: ""}


def values(annotation: Any) -> str:
    """Say which values a field takes, given the type that annotates it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(_unique(map(values, arguments)))
    if origin is Literal:
        return ", ".join(f"`{written(value)}`" for value in arguments)
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if origin in (list, tuple):
        return _list_of(arguments)
    if inspect.isclass(origin) or annotation not in WORDS:
        return "mapping"
    return WORDS[annotation]


def _list_of(arguments: tuple[Any, ...]) -> str:
    kinds = _unique(f"{values(argument)}s" for argument in arguments if argument is not Ellipsis)
    return f"list of {' or '.join(kinds)}"


def _unique(words: Iterable[str]) -> list[str]:
    return [word for word in dict.fromkeys(words) if word]


def default(field: "Field[Any]") -> str:
    """Return the default of a field as it is written in a recipe, or nothing if it is empty."""
    value = field.default if field.default_factory is MISSING else field.default_factory()
    if isinstance(value, Enum):
        value = value.value
    if value is MISSING or value is None or value in ("", [], {}, ()):
        return ""
    return f"`{written(value)}`"


def written(value: object) -> str:
    """Return a value as it is written in a recipe."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(written, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
