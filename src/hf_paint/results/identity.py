"""The identity of a run: what it was started with, beside its recipe. Its folder is only valid for that."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Self, TypedDict

from hf_paint.documents.shapes import read_shaped
from hf_paint.errors import InputError
from hf_paint.files import write_json
from hf_paint.results.run_folder import RunFolder


START_OVER = "Choose another output_dir, or remove this folder to start over."
NUM_SHOWN = 3
"""Maximum number of changes listed in a message."""


class StoredIdentity(TypedDict):
    """Contents of `identity.json`; see `Identity`."""

    num_processes: int
    content: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a run was started with, stored as `identity.json` in its folder.

    Attributes:
        num_processes: Number of processes that share a training batch.
        content: What the run reads -> fingerprint, e.g. `the train split of task 'mnist'`. Fine-tuned models are added
            as they are trained.
    """

    num_processes: int
    content: Mapping[str, str]

    @classmethod
    def load(cls, folder: RunFolder) -> Self | None:
        """Read the identity of the run in a folder, or return None if there is none."""
        stored = read_shaped(folder.identity, StoredIdentity, advice=START_OVER)
        return None if stored is None else cls(num_processes=stored["num_processes"], content=stored["content"])

    def save(self, folder: RunFolder) -> None:
        """Write the identity of a run, if this process writes to its folder."""
        if folder.write:
            write_json(folder.identity, asdict(self))

    def check(self, folder: RunFolder) -> Self:
        """Check that a folder contains nothing, or a run with this identity; return it with what that run trained.

        Raises:
            InputError: If something that the run reads has changed, or it is not known what the run has read.
        """
        stored = type(self).load(folder)
        if stored is None:
            if folder.has_parts():
                raise InputError(
                    f"{folder.path} contains a run that an earlier version of hf_paint started, without "
                    f"{folder.identity.name}, so it is not known whether its data are still the same. {START_OVER}"
                )
            return self
        changed = [name for name, fingerprint in self.content.items() if stored.content.get(name) != fingerprint]
        if changed:
            names = ", ".join(changed[:NUM_SHOWN]) + (", ..." if len(changed) > NUM_SHOWN else "")
            raise InputError(f"{folder.path} contains a run, but since it started, {names} changed. {START_OVER}")
        return replace(self, content={**stored.content, **self.content})


def bind(folder: RunFolder, name: str, fingerprint: str) -> None:
    """Bind a run to a model that it has trained, because its records and scores are only valid for this model.

    Args:
        folder: Run folder with an identity.
        name: Which model it is, e.g. `theta_1`.
        fingerprint: Fingerprint of its weights.

    Raises:
        InputError: If the run is already bound to another model with this name.
    """
    identity = Identity.load(folder)
    if identity is None:
        return
    if identity.content.get(name, fingerprint) != fingerprint:
        raise InputError(
            f"{folder.path} contains records for another {name} than the one that is there now, as its "
            f"{folder.identity.name} says. {START_OVER}"
        )
    replace(identity, content={**identity.content, name: fingerprint}).save(folder)
