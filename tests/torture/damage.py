"""Every file of runs, of a patch and of a cache is damaged in turn; then commands that read it run again.

Each must end with the results of the undamaged place, file by file, or with one line that names the file and exit
code 1 or 2: never with a traceback, and never with other numbers.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


if "HF_HOME" not in os.environ:
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-paint-torture-")
    atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tally import Budget, Tally

from damaged_place import DamagedPlace, Scene, damaged_place


Attempt = tuple[Scene, str, str]


def torture(budget: Budget) -> Iterator[Tally]:
    """Yield a tally for each thing that is damaged and each command."""
    with tempfile.TemporaryDirectory() as folder, damaged_place(Path(folder)) as place:
        attempts = all_attempts(place)
        budget.rng("damage").shuffle(attempts)
        tallies = {(s.name, s.command): Tally(f"{s.name}, {s.command}") for s, _, _ in attempts}
        for scene, file, how in attempts:
            if budget.left < 5:
                break
            tally = tallies[scene.name, scene.command]
            with tally.attempt(f"{scene.command} after {file} was damaged ({how})"):
                outcome = place.attempt(scene, file, how)
                tally.notes[outcome] = str(int(tally.notes.get(outcome, "0")) + 1)
        yield from tallies.values()


def all_attempts(place: DamagedPlace) -> list[Attempt]:
    """Return every scene with every file and every damage."""
    return [
        (scene, file, how)
        for scene in place.scenes()
        for file in place.files(scene)
        for how in place.damages(scene, file)
    ]
