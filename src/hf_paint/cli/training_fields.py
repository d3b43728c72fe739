"""The fields of `PaintTrainingArguments`, read from source code: importing torch and transformers takes seconds."""

import argparse
import ast
import builtins
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import field, make_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from hf_paint.errors import InputError


Annotation: TypeAlias = Any
"""What an annotation evaluates to: a class, a union or a `Literal`."""
PACKAGE = Path(__file__).parents[1]


@cache
def training_fields() -> type:
    """Return a dataclass with the fields of `PaintTrainingArguments` and their types, without their defaults."""
    return _dataclass("TrainingFields", _types())


@cache
def parsed_fields() -> type:
    """Return the same dataclass for a parser: a field that takes a text or a list of texts is a list."""
    return _dataclass("TrainingFields", {**_types(), **dict.fromkeys(text_or_list(), list[str])})


@cache
def text_or_list() -> frozenset[str]:
    """Return the names of the fields that take a text or a list of texts."""
    kinds = {name: set(get_args(kind)) for name, kind in _types().items()}
    return frozenset(
        name for name, parts in kinds.items() if str in parts and any(get_origin(part) is list for part in parts)
    )


@cache
def _types() -> Mapping[str, Annotation]:
    fields = _fields(_transformers() / "training_args.py", "TrainingArguments")
    fields |= _fields(PACKAGE / "training" / "data_arguments.py", "DataArguments")
    fields |= _fields(PACKAGE / "training" / "keeping_arguments.py", "KeepingArguments")
    return fields | _fields(PACKAGE / "training" / "training_args.py", "PaintTrainingArguments")


def without_defaults(kind: type) -> type:
    """Return a dataclass with the names and types of the fields of another, without their defaults."""
    return _dataclass(kind.__name__, get_type_hints(kind))


def _dataclass(name: str, types: Mapping[str, Annotation]) -> type:
    """Return a dataclass in which every default is `argparse.SUPPRESS`, so that its parser returns what was given."""
    return make_dataclass(name, [(key, kind, field(default=argparse.SUPPRESS)) for key, kind in types.items()])


@cache
def transformers_module(name: str) -> ModuleType:
    """Return a module of transformers that needs no other part of transformers, without importing transformers."""
    spec = importlib.util.spec_from_file_location(f"hf_paint.{name}", _transformers() / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"transformers has no module {name}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _transformers() -> Path:
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        raise InputError("The package transformers is not installed. Install it: pip install transformers.")
    return Path(spec.origin).parent


def _fields(path: Path, class_name: str) -> dict[str, Annotation]:
    """Return the names and types of the fields that a dataclass in this file adds."""
    names = _Names(path)
    [body] = [node.body for node in _parse(path).body if isinstance(node, ast.ClassDef) and node.name == class_name]
    return {
        node.target.id: names.evaluate(node.annotation)
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


class _Names(Mapping[str, Annotation]):
    """The names that the annotations of a file use, found in its source and in the files that it imports from.

    A class that is not an enumeration is read as `str`, which is how it is spelled on the command line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, Annotation] = {"Any": Any, "Literal": Literal}

    def evaluate(self, annotation: ast.expr) -> Annotation:
        """Return what an annotation stands for."""
        return eval(compile(ast.Expression(annotation), str(self.path), "eval"), {}, self)

    def __getitem__(self, name: str) -> Annotation:
        if name not in self.known:
            self.known[name] = getattr(builtins, name, None) or self._find(name)
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)

    def _find(self, name: str) -> Annotation:
        for node in _parse(self.path).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return _enumeration(node)
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
                return self.evaluate(node.value)
            if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
                path = _imported(self.path, node)
                return _Names(path)[name] if path.is_file() else str
        return str


def _enumeration(node: ast.ClassDef) -> Annotation:
    members = {
        ast.unparse(part.targets[0]): part.value.value
        for part in node.body
        if isinstance(part, ast.Assign) and isinstance(part.value, ast.Constant)
    }
    is_enumeration = any(ast.unparse(base).endswith("Enum") for base in node.bases)
    return Enum(node.name, members) if is_enumeration and members else str


def _imported(path: Path, node: ast.ImportFrom) -> Path:
    """Return the file of the module that an import statement of a file names."""
    parts = (node.module or "").split(".")
    root = path.parents[node.level - 1] if node.level else PACKAGE.parent
    return root.joinpath(*parts).with_suffix(".py")


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
