"""The ingredients of a soup: fine-tunings of one task that differ in their training arguments."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import product
from typing import Any

from hf_paint.errors import InputError, did_you_mean
from hf_paint.hub.card_metadata import PUBLIC_KEYS
from hf_paint.training_args import PaintTrainingArguments


def ingredient_arguments(
    args: PaintTrainingArguments, ingredients: Sequence[Mapping[str, Any]]
) -> dict[str, PaintTrainingArguments]:
    """Return the training arguments of each fine-tuning by its name.

    Args:
        args: The arguments that they share.
        ingredients: Training field -> its value. A list of values stands for one fine-tuning each, several lists for
            all combinations.

    Raises:
        InputError: If a field is unknown or decides nothing about the weights, a value cannot be used, or two
            fine-tunings are the same.
    """
    found: dict[str, PaintTrainingArguments] = {}
    for ingredient in ingredients:
        values = {key: value if isinstance(value, list) else [value] for key, value in _checked(ingredient).items()}
        for combination in product(*values.values()):
            changes = {key: _value(key, value) for key, value in zip(values, combination, strict=True)}
            name = re.sub(r"[^\w.=,-]", "_", ",".join(f"{key}={value}" for key, value in changes.items()))
            made = _arguments(args, changes)
            if twin := next((other for other, theirs in found.items() if other == name or theirs == made), None):
                raise InputError(f"The ingredient '{name}' is the same fine-tuning as '{twin}'.")
            found[name] = made
    return found


def _checked(ingredient: Mapping[str, Any]) -> Mapping[str, Any]:
    known = {f.name for f in fields(PaintTrainingArguments)} & set(PUBLIC_KEYS) - {"train_head"}
    if not isinstance(ingredient, Mapping) or not ingredient:
        raise InputError(f"An ingredient maps training fields to values, such as {{seed: [0, 1]}}; got {ingredient}.")
    for key in ingredient:
        if key not in known:
            raise InputError(
                f"'{key}' is no training field that ingredients differ in.{did_you_mean(str(key), known)}"
            )
    return ingredient


def _value(key: str, value: Any) -> Any:
    """Return a value in the type of the field's default; YAML reads `1e-5` as text."""
    default = next(f.default for f in fields(PaintTrainingArguments) if f.name == key)
    try:
        return float(value) if isinstance(default, float) else value
    except (TypeError, ValueError) as error:
        raise InputError(f"The ingredient's `{key}` must be a number, got {value!r}.") from error


def _arguments(args: PaintTrainingArguments, changes: Mapping[str, Any]) -> PaintTrainingArguments:
    given = args.given() | {"push_to_hub": False, "output_dir": args.output_dir}
    try:
        return PaintTrainingArguments(**given | dict(changes))
    except (TypeError, ValueError) as error:
        raise InputError(f"The ingredient {dict(changes)} cannot be used: {error}") from error
