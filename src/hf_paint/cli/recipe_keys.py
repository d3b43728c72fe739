"""Reading a recipe and flags, before torch is imported: every mistake in the keys themselves is found here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NoReturn, get_origin, get_type_hints

from hf_paint.cli.parser import StrictParser
from hf_paint.cli.recipe import PatchRecipe, check_flags, recipe_arguments
from hf_paint.cli.training_fields import parsed_fields, text_or_list, transformers_module, without_defaults
from hf_paint.errors import InputError


if TYPE_CHECKING:
    from transformers import HfArgumentParser
    from transformers.hf_argparser import string_to_bool
else:
    HfArgumentParser = transformers_module("hf_argparser").HfArgumentParser
    string_to_bool = transformers_module("hf_argparser").string_to_bool

REQUIRED = {"model": "a Hub repository id or a folder", "patching_tasks": "what to improve, for example a folder"}
KINDS = {"int": "a whole number, like 100", "float": "a number, like 0.5 or 1e-5"}
LISTS = frozenset(name for name, kind in get_type_hints(PatchRecipe).items() if get_origin(kind) is list)


AUTOMATIC = frozenset(["torch_compile", "onednn"])
"""Training fields that take true and false, and by default choose themselves, which is spelled `auto`."""


@dataclass(frozen=True)
class Keys:
    """The keys of a recipe that were given in its file or as flags.

    Attributes:
        recipe: Fields of `PatchRecipe`.
        training: Fields of `PaintTrainingArguments`.
    """

    recipe: Mapping[str, object]
    training: Mapping[str, object]


class RecipeParser(HfArgumentParser, StrictParser):
    """Parser for the fields of dataclasses: recipe keys and training fields."""

    def __init__(self, *types: type) -> None:
        super().__init__(types, prog="hf-paint patch", allow_abbrev=False)  # type: ignore[arg-type]
        for action in self._actions:
            if action.dest in AUTOMATIC:
                action.type = _true_or_false_or_auto

    def error(self, message: str) -> NoReturn:
        """Raise an error that names the key as recipes and flags both spell it."""
        if wrong := re.fullmatch(r"argument --(\w+)\S*: invalid (int|float) value: (.*)", message):
            key, kind, value = wrong.groups()
            advice = " Separate several values with spaces, or list them in brackets in a recipe." * (key in LISTS)
            raise InputError(f"`{key}` must be {KINDS[kind]}, got {value}.{advice}")
        if wrong := re.fullmatch(r"argument --(\w+)\S*: Truthy value expected: got (.*) but expected .*", message):
            words = "true, false or auto" if wrong[1] in AUTOMATIC else "true or false"
            raise InputError(f"`{wrong[1]}` must be {words}, got '{wrong[2]}'.")
        if stray := re.fullmatch(r"unrecognized arguments: (.*)", message):
            file = stray[1].endswith((".yaml", ".yml"))
            advice = (
                f"Give a recipe as --config {stray[1]}." if file else "Write --patching_tasks textures/, for example."
            )
            raise InputError(f"'{stray[1]}' follows no flag that takes it. {advice}")
        raise InputError(message.removeprefix("argument "))


def _true_or_false_or_auto(text: str) -> bool | None:
    """Parse the value of an automatic field; None is its default."""
    found: bool | None = None if text == "auto" else string_to_bool(text)
    return found


def read_keys(config: str | None, flags: list[str]) -> Keys:
    """Read a recipe and flags, which override it.

    Paths in a recipe are relative to its folder; paths in flags are relative to the working directory.

    Args:
        config: Path to the recipe, or None to use flags only.
        flags: Command line flags, for example `["--learning_rate", "3e-5", "--alphas", "0", "0.5"]`.

    Raises:
        InputError: If a key or flag is unknown (the closest match is suggested), a key is missing, or a value has a
            wrong type or names something that does not exist.
    """
    ours, others = without_defaults(PatchRecipe), parsed_fields()
    known = {f.name for part in (ours, others) for f in fields(part)}
    check_flags(flags, known=known)
    from hf_paint.cli.recipe_checks import check_names  # takes longer to import than all before
    from hf_paint.cli.recipe_paths import read_located_recipe

    recipe = read_located_recipe(config) if config else {}
    parsed = vars(RecipeParser(ours, others).parse_args(recipe_arguments(recipe, known=known) + flags))
    given = {name: _given(name, value) for name, value in parsed.items() if value is not None}
    _check_required(given)
    keys = Keys(
        recipe={name: value for name, value in given.items() if hasattr(ours, name)},
        training={name: value for name, value in given.items() if hasattr(others, name)},
    )
    check_names(keys.recipe)
    return keys


def _given(name: str, value: object) -> object:
    """Return a value as it was given: the only text in the list of a field that takes a text or a list is a text."""
    return value[0] if name in text_or_list() and isinstance(value, list) and len(value) == 1 else value


def _check_required(given: Mapping[str, object]) -> None:
    """Require the keys without a default.

    Raises:
        InputError: If keys are missing; all of them are listed.
    """
    missing = [f"`{key}` ({what})" for key, what in REQUIRED.items() if not given.get(key)]
    if missing:
        raise InputError(
            f"The recipe needs {' and '.join(missing)}. For example: hf-paint patch --model "
            "openai/clip-vit-base-patch32 --patching_tasks textures/ --supported_tasks cifar10"
        )
