"""A value has the shape of a type, or the message names the part that has not."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NotRequired, TypedDict

import pytest

from hf_paint import InputError
from hf_paint.documents.shapes import problem_of, read_shaped


class Inner(TypedDict):
    name: str
    sizes: NotRequired[list[int]]


@dataclass(frozen=True, kw_only=True)
class Outer:
    kind: Literal["a", 1]
    inner: Mapping[str, Inner] = field(default_factory=dict)
    pair: tuple[float, float] | None = None


class Stored(dict):
    stored_as = dict[str, float]


GOOD = [
    (None, None),
    (True, bool),
    (3, int),
    (3, float),
    (0.5, float),
    ("x", str),
    ([1, {}], object),
    ([1, 2], Sequence[int]),
    ({"a": [1.5, 2]}, dict[str, tuple[float, float]]),
    ({"name": "x", "other": 5}, Inner),
    ({"kind": 1, "inner": {"x": {"name": "y", "sizes": [1]}}, "pair": None}, Outer),
    ({"a": 0.5}, float | Stored),
]
BAD = [
    (0, None, "it must be null, got 0"),
    (1, bool, "it must be true or false, got 1"),
    (True, int, "it must be a whole number, got True"),
    (1.0, int, "it must be a whole number, got 1.0"),
    (False, float, "it must be a number, got False"),
    (math.nan, float, "it must be a number, got nan"),
    (math.inf, float, "it must be a number, got inf"),
    (None, str, "it must be a text, got None"),
    ("ab", Sequence[str], "it must be a list, got 'ab'"),
    ([1, "x"], list[int], "`[1]` must be a whole number, got 'x'"),
    (["x", 1], tuple[str, str], "`[1]` must be a text, got 1"),
    ([1], tuple[float, float], "it must be a list of 2, got [1]"),
    ([], dict[str, int], "it must be keys and values, got []"),
    ({}, Inner, "`name` must be there"),
    ({"name": "x", "sizes": [None]}, Inner, "`sizes[0]` must be a whole number, got None"),
    ({"kind": True}, Outer, "`kind` must be 'a' or 1, got True"),
    ({"kind": []}, Outer, "`kind` must be 'a' or 1, got []"),
    ({"kind": "a", "inner": {"x": {"name": 1}}}, Outer, "`inner.x.name` must be a text, got 1"),
    ({"kind": "a", "pair": [1, "2"]}, Outer, "`pair[1]` must be a number, got '2'"),
    ({"kind": "a", "pair": 5}, Outer, "`pair` must be a list of 2 or null, got 5"),
    ({"a": "b"}, float | Stored, "`a` must be a number, got 'b'"),
    ("b" * 100, float | Stored, f"it must be a number or keys and values, got '{'b' * 56}..."),
]


@pytest.mark.parametrize(("value", "shape"), GOOD)
def test_a_value_with_the_shape(value, shape):
    assert problem_of(value, shape) is None


@pytest.mark.parametrize(("value", "shape", "problem"), BAD)
def test_a_value_without_the_shape(value, shape, problem):
    assert problem_of(value, shape) == problem


def test_a_file_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "inner.json"
    assert read_shaped(path, Inner) is None
    path.write_text(json.dumps({"name": "x"}))
    assert read_shaped(path, Inner) == {"name": "x"}
    for content in ('{"name": 1}', "{", "[]"):
        path.write_text(content)
        with pytest.raises(InputError, match=r"^\S*inner.json [^\n]+ Remove this file.$"):
            read_shaped(path, Inner)
