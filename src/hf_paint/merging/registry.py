"""Registry of merging methods, and the function that reads a method from a recipe."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, TypeAlias

from hf_paint.errors import InputError, did_you_mean
from hf_paint.merging.adamerging import AdaMerging
from hf_paint.merging.auto import Auto
from hf_paint.merging.averaging import EMA, SWA
from hf_paint.merging.base import Interpolate, Method
from hf_paint.merging.dare import Dare
from hf_paint.merging.fisher import Fisher
from hf_paint.merging.isotropic import IsoC, IsoCTS
from hf_paint.merging.layerwise import Layerwise, Lines
from hf_paint.merging.learned_soups import LearnedSoup
from hf_paint.merging.model_stock import ModelStock
from hf_paint.merging.regmean import RegMean
from hf_paint.merging.soups import GreedySoup, UniformSoup
from hf_paint.merging.task_arithmetic import TaskArithmetic
from hf_paint.merging.ties import Ties
from hf_paint.merging.tsv import TSV


METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        *(Interpolate, Lines, Layerwise, Fisher, SWA, EMA),
        *(UniformSoup, GreedySoup, LearnedSoup, ModelStock, TaskArithmetic, Ties, Dare),
        *(TSV, IsoC, IsoCTS, AdaMerging, RegMean, Auto),
    )
}
MethodLike: TypeAlias = str | Mapping[str, Mapping[str, object] | None]
"""Name of a method, or `{name: {option: value}}`."""


def read_method(method: MethodLike) -> Method:
    """Read a method from a recipe and check its options.

    Raises:
        InputError: If the method or an option is unknown (the message suggests a name), or if a value is invalid.

    Example:
        >>> read_method({"lines": {"beta": 0.8}}).to_recipe(), read_method("ties").to_recipe()
        ({'lines': {'beta': 0.8}}, {'ties': {'density': 0.2}})
    """
    if not isinstance(method, (str, Mapping)) or (isinstance(method, Mapping) and len(method) != 1):
        raise InputError(
            f"`method` must be a name, or a name with options like {{ties: {{density: 0.2}}}}; got {method}."
        )
    name, values = (method, None) if isinstance(method, str) else next(iter(method.items()))
    if name not in METHODS:
        hint = did_you_mean(str(name), METHODS) or f" Methods: {', '.join(METHODS)}."
        raise InputError(f"Unknown method '{name}'.{hint}")
    if not isinstance(values, (Mapping, type(None))):
        raise InputError(f"Options of the method '{name}' must be a mapping {{option: value}}, got {values}.")
    options = {f.name: f for f in fields(METHODS[name])}
    for option in values or {}:
        if option not in options:
            hint = did_you_mean(str(option), options) or f" Options: {', '.join(options) or 'none'}."
            raise InputError(f"Unknown option '{option}' for the method '{name}'.{hint}")
    given = {option: _value(name, options[option], value) for option, value in (values or {}).items()}
    if METHODS[name].tries and "methods" not in given:
        given["methods"] = tuple(method() for method in METHODS.values() if method.cheap)
    return METHODS[name](**given)


def _value(method: str, option: "Field[Any]", value: Any) -> Any:
    """Convert a value to the type of the option's default, since YAML reads `1e-3` as a string."""
    if METHODS[method].tries:
        return _methods(method, option.name, value)
    if option.default is MISSING:  # a mapping or a list, which the method itself checks
        return value
    kind = type(option.default)
    try:
        if kind is float and not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError):
        pass
    if type(value) is not kind:
        raise InputError(f"`{option.name}` of the method '{method}' must be {_KINDS[kind]}, got {value!r}.")
    return value


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _methods(method: str, option: str, value: object) -> "Method | tuple[Method, ...]":
    """Read the merges to try, or the one that was chosen."""
    if option == "chosen" and isinstance(value, (str, Mapping)):
        return read_method(value)
    if option == "methods" and isinstance(value, (list, tuple)):
        return tuple(read_method(one) for one in value)
    what = "a list of methods, like [ties, tsv]" if option == "methods" else "a method"
    raise InputError(f"`{option}` of the method '{method}' must be {what}, got {value!r}.")
