"""Lanes: processes that torture side by side, each a fork with a world of its own."""

import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from tally import Tally

from blank_plots import blank_plots
from disturbed import World, warm_up
from forked_calls import Fork
from hub_client import log_in
from hub_server import HubServer


LANES = 2


def in_lanes(work: Callable[[World, int], Iterable[Tally]]) -> list[Tally]:
    """Return the tallies of all lanes, those of the same kind added up.

    Args:
        work: Called in each lane as `work(world, lane)`, with a Hub that belongs to its world.
    """
    folder = Path(tempfile.mkdtemp(prefix="hf-paint-torture-"))
    try:
        blank_plots(pytest.MonkeyPatch())  # which are drawn by libraries, and take longest
        os.environ |= {"HF_HOME": str(folder / "hf"), "TOKENIZERS_PARALLELISM": "false"}
        torch.set_num_threads(1)
        (folder / "warm").mkdir()
        warm_up(World(folder / "warm"), ("single", "parallel", "cache fill"))
        lanes = [_Lane(folder / f"lane{lane}", work, lane) for lane in range(LANES)]
        added: dict[str, Tally] = {}
        for lane in lanes:
            for tally in lane.tallies():
                total = added.setdefault(tally.kind, Tally(tally.kind))
                total.tried += tally.tried
                total.lost += tally.lost
                total.notes |= tally.notes
        return list(added.values())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Lane:
    """One of the processes."""

    def __init__(self, folder: Path, work: Callable[[World, int], Iterable[Tally]], lane: int) -> None:
        self.folder, self.work, self.lane = folder, work, lane
        folder.mkdir()
        self.fork = Fork(self._work)

    def _work(self) -> int:
        with HubServer(self.folder / "hub") as hub:
            log_in(hub, pytest.MonkeyPatch(), HF_HOME=os.environ["HF_HOME"])
            tallies = list(self.work(World(self.folder, hub=hub), self.lane))
        (self.folder / "tallies").write_bytes(pickle.dumps(tallies))
        return 0

    def tallies(self) -> list[Tally]:
        """Wait for what the process has counted."""
        code, printed = self.fork.wait(60 * 60)
        if code:
            raise RuntimeError(f"lane {self.lane} ended with code {code}:\n{printed}")
        tallies: list[Tally] = pickle.loads((self.folder / "tallies").read_bytes())
        return tallies
