"""The page of the files of a run."""

from collections.abc import Iterable

from hf_paint.results import locks, run_files
from hf_paint.results.records import JSON_KEYS, Result
from hf_paint.weights.manifest import MANIFEST
from site_pages.markdown import code, sections, table, text
from site_pages.source import constants, described


INTRODUCTION = """\
# Files of a run

Everything that a run makes stands in its folder, `output_dir`. A file that belongs to an option is only there if the
option is set."""
GROUPS = {
    "KEPT": "What the run is",
    "RECORDS": "What was measured",
    "FACTS": "What was found out once",
    "PER_IMAGE": "Answers to single images",
    "DRAWN": "Plots and the report",
}
"""Name of the tuple in `run_files` -> heading of its files."""
CHECKSUMS = f"""\
## Checksums and the lock

`{MANIFEST}` holds the checksums of the files of a finished run, and each model in it has one of its own;
[the run folder](../how_to/patching.md#the-run-folder) says what they are for. `{locks.LOCK}` is locked while a process
works in the folder."""
RECORD = f"""\
## Keys of a record

A line of `{run_files.RESULTS}` or `{run_files.ENSEMBLE}` is a JSON object with these keys and `accuracy`, which is
`correct / total`. A metric that a task does not have is null."""


def page() -> str:
    """Return the page."""
    notes = constants(run_files)
    groups = [
        part
        for name, heading in GROUPS.items()
        for part in (f"## {heading}", text(notes[name]), _files(getattr(run_files, name)))
    ]
    return sections(
        INTRODUCTION,
        *groups,
        "## Models and other folders",
        table(["folder", "what it holds"], ([f"`{name}/`", text(what)] for name, what in run_files.FOLDERS.items())),
        CHECKSUMS,
        RECORD,
        table(["key", "what it says"], _keys()),
    )


def _files(names: Iterable[str]) -> str:
    return table(["file", "what it holds"], ([code(name), text(run_files.FILES[name])] for name in names))


def _keys() -> Iterable[list[str]]:
    words = described(Result)[1]
    own = {JSON_KEYS.get(name, name): words[name] for name in Result.__dataclass_fields__}
    first = ("alpha", "task", "role", "split")
    return ([f"`{key}`", text(own[key])] for key in dict.fromkeys([*first, *own]))
