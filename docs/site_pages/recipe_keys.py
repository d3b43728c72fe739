"""The page of recipe keys: those of `PatchRecipe`, and the fields of `PaintTrainingArguments`."""

import re
from collections.abc import Iterable
from dataclasses import Field, fields
from typing import Any, get_type_hints

from hf_paint import PaintTrainingArguments
from hf_paint.cli.recipe import COMMON_TRAINING_FIELDS, PatchRecipe
from hf_paint.cli.recipe_keys import REQUIRED
from site_pages.markdown import sections, table, text
from site_pages.source import default, values


HEADER = ["key", "values", "default", "what it sets"]
INTRODUCTION = """\
# Recipe keys

A recipe is a YAML file with these keys, for `hf-paint patch --config recipe.yaml`. Every key is also a flag of
[`hf-paint patch`](commands.md#hf-paint-patch), which overrides the file: `max_steps: 500` is `--max_steps 500`. Lists
are written in brackets in a recipe and with spaces between their values as a flag. An unknown key is an error, and so
is a key that the run would not read.

From Python, the first table has the arguments of the functions in [patching](api/patching.md) and the fields of
`PatchOptions`, and the other two have the fields of `PaintTrainingArguments`."""
COMMON = """\
## Training fields

The fields of `PaintTrainingArguments` that people set most often, as `hf-paint patch --help` lists them."""
OTHERS = """\
## All other training fields

`PaintTrainingArguments` is a `transformers.TrainingArguments`, so all fields of that are recipe keys, too, with the
help texts of transformers. `hf-paint patch --help_all` prints them. Fields that an image tower or the evaluation of
tasks would not read are refused."""


def page() -> str:
    """Return the page."""
    training = {field.name: field for field in fields(PaintTrainingArguments) if field.init}
    common = [training[name] for name in COMMON_TRAINING_FIELDS]
    others = [field for name, field in training.items() if name not in COMMON_TRAINING_FIELDS]
    hints = get_type_hints(PaintTrainingArguments)
    return sections(
        INTRODUCTION,
        "## The model, the tasks, the method and the choice of alpha",
        _table(fields(PatchRecipe), get_type_hints(PatchRecipe)),
        COMMON,
        _table(common, hints),
        OTHERS,
        _table(others, hints),
    )


def _table(keys: "Iterable[Field[Any]]", hints: dict[str, Any]) -> str:
    return table(HEADER, ([f"`{key.name}`", values(hints[key.name]), *_help(key)] for key in keys))


def _help(key: "Field[Any]") -> tuple[str, str]:
    """Return the default of a key, and what it sets."""
    if key.name in COMMON_TRAINING_FIELDS:
        words = COMMON_TRAINING_FIELDS[key.name]
        found = re.fullmatch(r"(.*) \(([^()]*)\)\.", words)  # the default as the help text says it
        if found is None:
            return "", text(words)
        return default(key) or text(found[2].replace("False", "`false`")), f"{text(found[1])}."
    words = key.metadata.get("help", "").replace("%%", "%")
    return "required" if key.name in REQUIRED else default(key), text(words)
