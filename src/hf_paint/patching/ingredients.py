"""Ingredients: several fine-tuned models to merge, each with its own training arguments."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import product

from hf_paint.errors import InputError, did_you_mean
from hf_paint.files import plain
from hf_paint.results.public_recipe import PUBLIC_KEYS
from hf_paint.training.training_args import PaintTrainingArguments


def ingredient_arguments(
    args: PaintTrainingArguments, ingredients: Sequence[Mapping[str, object]]
) -> dict[str, PaintTrainingArguments]:
    """Return the training arguments of each fine-tuned model, keyed by its name.

    Args:
        args: Training arguments shared by all ingredients.
        ingredients: Mappings from training fields to values. A list of values expands to one model per value, and
            several lists expand to all their combinations.

    Raises:
        InputError: If a field is unknown or does not affect the weights, a value is invalid, or two ingredients have
            the same training arguments.
    """
    arguments: dict[str, PaintTrainingArguments] = {}
    for ingredient in ingredients:
        given = {key: plain(value) for key, value in _checked(ingredient).items()}
        values = {key: value if isinstance(value, list) else [value] for key, value in given.items()}
        for combination in product(*values.values()):
            changes = {key: _value(key, value) for key, value in zip(values, combination, strict=True)}
            name = re.sub(r"[^\w.=,-]", "_", ",".join(f"{key}={value}" for key, value in changes.items()))
            changed = _with_changes(args, changes)
            twins = [other for other, theirs in arguments.items() if other == name or theirs == changed]
            if twins:
                raise InputError(
                    f"The ingredients '{twins[0]}' and '{name}' have the same training arguments. Remove one."
                )
            arguments[name] = changed
    return arguments


def _checked(ingredient: Mapping[str, object]) -> Mapping[str, object]:
    known = {f.name for f in fields(PaintTrainingArguments)} & set(PUBLIC_KEYS) - {"train_head"}
    if not isinstance(ingredient, Mapping) or not ingredient:
        raise InputError(f"An ingredient must map training fields to values, like {{seed: [0, 1]}}; got {ingredient}.")
    for key in ingredient:
        if key not in known:
            hint = did_you_mean(str(key), known)
            raise InputError(f"'{key}' is not a training field that ingredients can set.{hint}")
    return ingredient


def _value(key: str, value: object) -> object:
    """Convert the value of a float field to a float, because YAML reads `1e-5` as text."""
    default = next(f.default for f in fields(PaintTrainingArguments) if f.name == key)
    if not isinstance(default, float):
        return value
    try:
        return float(str(value))
    except ValueError as error:
        raise InputError(f"The ingredient's `{key}` must be a number, got {value!r}.") from error


def _with_changes(args: PaintTrainingArguments, changes: Mapping[str, object]) -> PaintTrainingArguments:
    """Return a copy of the arguments with some changes, validated as a whole."""
    values = args.given() | {"push_to_hub": False, "output_dir": args.output_dir} | dict(changes)
    try:
        return PaintTrainingArguments(**values)
    except (TypeError, ValueError) as error:
        raise InputError(f"Invalid ingredient {dict(changes)}: {error}") from error
