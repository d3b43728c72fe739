"""A disk and a network that fail at every call in turn; each command says so in one line, and a rerun mends all.

- The disk: every call of Python that writes (opening a file to write, making a folder, moving, removing) fails once,
  with ENOSPC, EIO or EACCES. Where a compiler is found, a library that is loaded before all others also lets each
  `write` of Python, PyTorch, safetensors and Arrow fail.
- The Hub: every request of a push and of a pull fails once, in one of the ways of `hub_http.py`.
- A data set: the connection is cut while the rows of a data set are loaded and streamed.

A command may also succeed where it can do without what failed: a cache that cannot be written, a retried request.
"""

import errno
import os
import random
from collections.abc import Iterator

from lanes import LANES, in_lanes
from tally import Budget, Tally

from disturbed import LEFTOVER, World, at_write, differences
from hub_server import Fault
from kills import Undisturbed, undisturbed


NUMBERS = ("ENOSPC", "EIO", "EACCES")
RUNS = ("single", "sequential", "parallel", "push", "cache fill")
KINDS = ("500", "429", "401", "403", "412", "507", "cut", "cut response", "slow")
"""Faults of the Hub, as `hub_http.py` knows them."""


def torture(budget: Budget) -> Iterator[Tally]:
    """Yield a tally for each kind of fault and each command."""

    def work(world: World, lane: int) -> Iterator[Tally]:
        rng = budget.rng(f"faults {lane}")
        known = {name: undisturbed(world, name) for name in RUNS}
        disk = {name: Tally(f"writes of {name}") for name in RUNS}
        hub = Tally("requests of a push")
        for name, nth, number in _drawn(rng, lane, known):
            if budget.left < 5 * max(command.seconds for command in known.values()):
                break
            if name == "hub":
                with hub.attempt(f"{number} at request {nth} of a push"):
                    fail_request(world, nth, number, known["push"])
            else:
                with disk[name].attempt(f"{number} at write {nth} of {name}"):
                    fail_write(world, name, nth, number, known[name])
        for tally in disk.values():
            tally.notes["writes"] = str(known[tally.kind.removeprefix("writes of ")].writes)
        yield from (*disk.values(), hub)

    yield from in_lanes(work)


def _drawn(rng: random.Random, lane: int, known: dict[str, Undisturbed]) -> list[tuple[str, int, str]]:
    """Return what fails in one lane: the short commands and the Hub first, then all writes in an order that is drawn."""
    faults = [(name, nth) for name in RUNS for nth in range(1, known[name].writes + 1)]
    drawn = [(name, nth, rng.choice(NUMBERS)) for name, nth in faults if nth % LANES == lane]
    drawn += [("hub", nth, rng.choice(KINDS)) for nth in range(1, known["push"].requests + 1) if nth % LANES == lane]
    rng.shuffle(drawn)
    return drawn


def fail_write(world: World, name: str, nth: int, number: str, expected: Undisturbed) -> None:
    """Let one call that writes fail, check how the command ends, run it again, and compare what it leaves."""
    code = getattr(errno, number)

    def fail(path: str) -> None:
        raise OSError(code, os.strerror(code), path)

    world.begin(name)
    ended, printed = world.start(name, lambda: at_write(nth, fail, world.place)).wait(120)
    check_end(ended, printed)
    check_leftovers(world)
    if wrong := differences(world.run(name), expected.left):
        raise AssertionError(f"after exit code {ended} and a rerun: {', '.join(wrong[:8])}")


def fail_request(world: World, nth: int, kind: str, expected: Undisturbed) -> None:
    """Let one request of a push fail, and do the same."""
    world.begin("push")
    part = {"part": "response"} if kind == "cut response" else {}
    world.hub.faults.append(Fault(kind.split()[0], nth=nth, seconds=0.1, **part))
    ended, printed = world.start("push").wait(120)
    world.hub.faults.clear()
    check_end(ended, printed)
    check_leftovers(world)
    if wrong := differences(world.run("push"), expected.left):
        raise AssertionError(f"after exit code {ended} and a rerun: {', '.join(wrong[:8])}")


def check_end(code: int, printed: str) -> None:
    """Check that a command succeeded, or failed with one line that says why."""
    lines = [line for line in printed.splitlines() if line.startswith("hf-paint: ")]
    if "Traceback" in printed or "Exception ignored" in printed or code not in (0, 1) or len(lines) != code:
        raise AssertionError(f"exit code {code}: {printed[-1500:]}")


def check_leftovers(world: World) -> None:
    """Check that a command that failed has removed its temporary files."""
    left = [path for path in world.place.rglob("*") if LEFTOVER.search(path.name)]
    if left:
        raise AssertionError(f"left behind: {left}")
