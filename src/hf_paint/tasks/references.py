"""What names a task: from a path, a data set id on the Hub or data in memory to the keys of a task definition.

Nothing is opened here but folders, so a wrong path is refused at once. What only the data can tell (columns, classes
and splits) is found when they are opened: `guess: true` asks for it.
"""

import os
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, runtime_checkable
from unicodedata import normalize

from hf_paint.errors import InputError, did_you_mean
from hf_paint.files import exists, expand, is_file, is_folder
from hf_paint.tasks.data_files import FORMATS, LOCAL_FILES, MEMORY, SPLIT_WORDS, describe_folder, files_of


if TYPE_CHECKING:
    from typing_extensions import TypeIs

OTHER_REFERENCES = (
    "A folder of pictures in class folders, a zip, parquet, CSV, JSON or tar file, a folder of such files, and a data "
    "set on the Hub (user/name) are tasks, too."
)
_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(:(?P<config>[^@]+))?(@(?P<revision>.+))?", re.ASCII)
_NO_WORDS = (*chain(*SPLIT_WORDS.values()), "data", "labels", "metadata", "annotations")
_NO_NAME = re.compile(rf"({'|'.join(_NO_WORDS)})([-_.]?\d+(-of-\d+)?)?")
"""Names of files and folders that do not tell what they hold."""


@runtime_checkable
class Columns(Protocol):
    """A data set in memory: a `datasets.Dataset`, or a `DatasetDict` of several splits."""

    @property
    def column_names(self) -> object:
        """Names of the columns, of each split if there are several."""
        ...


Pairs: TypeAlias = Sequence[tuple[object, object]]
"""Pictures with their labels: a PIL image, an array or a path, and a text or a number."""
InMemory: TypeAlias = Columns | Pairs


class HubId(NamedTuple):
    """A data set on the Hub, as in `user/name:config@revision`."""

    id: str
    config: str | None
    revision: str | None


def is_in_memory(reference: object) -> "TypeIs[InMemory]":
    """Return whether a reference is a data set in memory, or a list of (image, label) pairs."""
    return isinstance(reference, Columns) or is_pairs(reference)


def is_pairs(reference: object) -> "TypeIs[Pairs]":
    """Return whether a reference is a list of (image, label) pairs."""
    return (
        isinstance(reference, Sequence)
        and len(reference) > 0
        and all(isinstance(item, tuple) and len(item) == 2 for item in reference)
    )


def is_path(text: str) -> bool:
    """Return whether a reference is a path: it exists, or is written like one.

    Example:
        >>> is_path("me/pets"), is_path("./pets"), is_path("pets/"), is_path("me/pets.parquet"), is_path("a/b/c")
        (False, True, True, True, True)
    """
    if "://" in text or not text.strip():
        return False
    path = expand(text)
    id = re.split("[:@]", text)[0]
    return (
        text.startswith((".", "~", "/"))
        or text.endswith(("/", os.sep))
        or path.suffix.lower() in FORMATS
        or id.count("/") > 1
        or exists(path)
    )


def parse_hub_id(text: str) -> HubId | None:
    """Return the parts of a data set id on the Hub with exactly one slash, or None for any other text.

    Example:
        >>> parse_hub_id("me/pets:dogs@main")
        HubId(id='me/pets', config='dogs', revision='main')
        >>> parse_hub_id("cifar10") is None
        True
    """
    match = _HUB_ID.fullmatch(text)
    return HubId(match["id"], match["config"], match["revision"]) if match else None


def define(reference: str, folder: Path | None = None) -> dict[str, object] | None:
    """Return the definition of the task that a path or a data set id names, or None for any other text.

    Args:
        reference: A folder, a file, or an id on the Hub.
        folder: Folder against which a relative path is resolved; the working directory by default.

    Raises:
        InputError: If it is a path at which there are no data.
    """
    here = reference if folder is None else str(folder / expand(reference))
    path = expand(here)
    if is_path(reference) or is_path(here) or ("/" in reference and _did_you_mean_beside(path)):
        return _define_path(path)
    hub = parse_hub_id(reference)
    if hub is None:
        return None
    name = name_of("-".join(filter(None, (hub.id.partition("/")[2], hub.config))))
    keys = {"name": name, "dataset": hub.id, "config": hub.config, "revision": hub.revision, "guess": True}
    return {key: value for key, value in keys.items() if value is not None}


def _define_path(path: Path) -> dict[str, object]:
    if not exists(path):
        raise InputError(
            f"There is no file or folder '{path}'.{_did_you_mean_beside(path)} Correct the path; a built-in "
            "task is named without slashes, and a data set on the Hub as user/name."
        )
    found = describe_folder(path) if path.is_dir() else files_of(path)
    return {"name": name_of_path(path), **found, "guess": True}


def _did_you_mean_beside(path: Path) -> str:
    """Return `" Did you mean 'train'?"` with the closest name in the folder in which a path should be."""
    return did_you_mean(path.name, [other.name for other in path.parent.iterdir()] if is_folder(path.parent) else [])


def name_of_path(path: Path) -> str:
    """Return the name of the task in a folder or file; one that is called like a split has the name of its folder."""
    places = [path.absolute(), *path.absolute().parents]
    stems = (place.name if place.is_dir() else place.name.partition(".")[0] for place in places)
    return name_of(next((stem for stem in stems if not _NO_NAME.fullmatch(stem.lower())), ""))


def name_of(text: str) -> str:
    """Return a text as the name of a task: in lower case, with other characters than letters and digits as `-`.

    Example:
        >>> name_of("My Textures (2024)"), name_of("street_signs"), name_of("???")
        ('my-textures-2024', 'street_signs', 'dataset')
    """
    plain = normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain).strip("-") or "dataset"


def complete_reference(definition: Mapping[str, object], folder: Path | None = None) -> dict[str, object]:
    """Return a definition whose `dataset` is any reference, with the keys that the reference implies.

    What the definition itself says has precedence. An inline definition asks for guesses, unless it is complete: with
    `name`, `dataset` and `templates` and, if `dataset` is a path, `splits`. A task YAML asks by `guess: true`.

    Args:
        definition: The keys of a task definition.
        folder: Folder of the task YAML; None for an inline definition.

    Raises:
        InputError: If `dataset` is a path at which there are no data.
    """
    own = dict(definition)
    dataset = own.pop("dataset", None)
    if is_in_memory(dataset):
        return define_memory(dataset) | own
    if not isinstance(dataset, (str, Path)) or "extends" in own:
        return dict(definition)
    text = str(dataset)
    is_complete = is_complete_definition(definition) and not (is_path(text) and own.get("splits") is None)
    if own.get("guess", folder is None and not is_complete):
        if text in LOCAL_FILES:
            return {**_named_by_files(own), "guess": True, **definition}
        return {**(define(text, folder) or {"name": name_of(text), "dataset": text, "guess": True}), **own}
    path = (folder or Path()) / expand(text)
    return {**files_of(path), **own} if path.suffix.lower() in FORMATS and is_file(path) else dict(definition)


def is_complete_definition(definition: Mapping[str, object]) -> bool:
    """Return whether a definition has all the keys that only a person can choose."""
    has_prompts = any(definition.get(key) is not None for key in ("templates", "choices_column"))
    return has_prompts and all(definition.get(key) is not None for key in ("name", "dataset"))


def _named_by_files(definition: Mapping[str, object]) -> dict[str, object]:
    """Return the name of a task whose files are listed, if it has none."""
    files = definition.get("data_files")
    first = next(iter(files.values()), "") if isinstance(files, Mapping) else definition.get("data_dir") or ""
    path = first[0] if isinstance(first, list) and first else first
    return {"name": name_of_path(Path(str(path)))} if path else {}


def define_memory(data: InMemory) -> dict[str, object]:
    """Return the definition of a task whose data are in memory, named by the data set that they were loaded from."""
    first = next(iter(data.values()), None) if isinstance(data, Mapping) else data
    known = getattr(getattr(first, "info", None), "dataset_name", None)
    name = "dataset" if known in (None, "generator", *LOCAL_FILES) else name_of(str(known))
    return {"name": name, "dataset": MEMORY, "rows": data, "guess": True}
