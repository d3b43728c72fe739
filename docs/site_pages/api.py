"""The pages of the Python API: one for each topic, with every public name."""

from collections.abc import Mapping
from importlib import import_module

import hf_paint
from site_pages.markdown import sections, table, text


TOPIC_OF = {"data.summary": "tasks", "tasks.scene_tasks": "scenes", "tasks.scenes": "scenes"}
"""Package of public names -> topic, if that is another one than the first part of its name."""
INTRODUCTION = """\
# Python API

Import every name from `hf_paint`. What is not listed here may change between versions. Arguments that are out of range
or contradict each other raise [`InputError`][hf_paint.InputError], with one line that says what was given, what was
expected and what to do."""


def _topics() -> dict[str, list[str]]:
    topics: dict[str, list[str]] = {}
    for package, names in hf_paint._PACKAGES.items():
        topics.setdefault(TOPIC_OF.get(package, package.partition(".")[0]), []).extend(names)
    return {topic: sorted(names, key=str.casefold) for topic, names in sorted(topics.items())}


TOPICS: Mapping[str, list[str]] = _topics()
"""Topic -> its public names."""


def index() -> str:
    """Return the page that lists all names."""
    parts = [part for topic, names in TOPICS.items() for part in (f"## [{_title(topic)}]({topic}.md)", _names(names))]
    return sections(INTRODUCTION, *parts)


def page(topic: str) -> str:
    """Return the page of a topic; mkdocstrings fills in the signatures and docstrings."""
    return sections(f"# {_title(topic)}", *(f"::: hf_paint.{name}" for name in TOPICS[topic]))


def _title(topic: str) -> str:
    return topic.capitalize()


def _names(names: list[str]) -> str:
    return table(["name", "what it is"], ([f"[`{name}`][hf_paint.{name}]", text(_summary(name))] for name in names))


def _summary(name: str) -> str:
    """Return the first sentence of the docstring of a public name."""
    thing = getattr(import_module("hf_paint"), name)
    return (thing.__doc__ or "").strip().partition("\n\n")[0]
