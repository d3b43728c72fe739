"""A disk and a network that fail at every call in turn; each command says so in one line, and a rerun mends all.

- The disk: every call of Python that writes (opening a file to write, making a folder, moving, removing) fails once,
  with ENOSPC, EIO or EACCES. Besides, the system refuses to let files grow beyond a size that is drawn, which strikes
  Python, PyTorch, safetensors and Arrow in the middle of a file.
- The Hub: every request of a push and of a pull fails once, or from then on, in one of the ways of `hub_http.py`.
- A data set: the same for the requests that load it, or stream it.

A command may also succeed where it can do without what failed: a cache that cannot be written, a request that is
tried again. The order is drawn, so that all kinds have their share if time runs out.
"""

import errno
import os
import random
import resource
import time
from collections.abc import Iterator
from functools import partial
from itertools import zip_longest

from kills import Undisturbed, check_rerun, undisturbed
from lanes import LANES, in_lanes
from tally import Budget, Tally

from disturbed import LEFTOVER, World, at_write
from hub_server import Fault


NUMBERS = ("ENOSPC", "EIO", "EACCES")
DISK = ("single", "sequential", "parallel", "push", "cache fill")
SIZES = 10
SMALLEST = 5000
NETWORK = ("push", "pull", "data set", "stream")
KINDS = {
    "push": ("500", "429", "401", "403", "412", "507", "cut", "cut response", "slow", "dead"),
    "pull": ("500", "429", "401", "403", "cut", "slow", "dead"),
}
"""Faults as `hub_http.py` knows them; `dead` cuts this request and all that follow."""


def torture(budget: Budget) -> Iterator[Tally]:
    """Yield a tally for the disk and one for the network, for each command."""

    def work(world: World, lane: int) -> Iterator[Tally]:
        rng = budget.rng(f"faults {lane}")
        world.publish()
        known = {name: undisturbed(world, name) for name in (*DISK, *NETWORK)}
        tallies = {("write", name): Tally(f"writes, {name}") for name in DISK}
        tallies |= {("size", name): Tally(f"sizes of files, {name}") for name in DISK}
        tallies |= {("request", name): Tally(f"requests, {name}") for name in NETWORK}
        for (call, name), tally in tallies.items():
            calls = {"write": known[name].writes, "request": known[name].requests, "size": SIZES}
            tally.notes["calls"] = str(calls[call])
        for call, name, nth, kind in _drawn(rng, lane, known):
            if budget.left < 3 * max(command.seconds for command in known.values()):
                break
            with tallies[call, name].attempt(f"{kind} at {call} {nth} of {name}"):
                {"write": fail_write, "request": fail_request, "size": fail_size}[call](
                    world, name, nth, kind, known[name]
                )
        yield from tallies.values()

    yield from in_lanes(work)


def _drawn(rng: random.Random, lane: int, known: dict[str, Undisturbed]) -> list[tuple[str, str, int, str]]:
    """Return what fails in one lane: (write, request or size, command, which of them, how); all kinds in turn."""
    writes = {name: [("write", name, nth, rng.choice(NUMBERS)) for nth in _up_to(known[name].writes)] for name in DISK}
    sizes = {name: [("size", name, nth, "EFBIG") for nth in _draw_sizes(rng, known[name])] for name in DISK}
    requests = {
        name: [
            ("request", name, nth, rng.choice(KINDS.get(name, KINDS["pull"]))) for nth in _up_to(known[name].requests)
        ]
        for name in NETWORK
    }
    groups = [group[lane::LANES] for kind in (requests, writes, sizes) for group in kind.values()]
    for group in groups:
        rng.shuffle(group)
    return [fault for turn in zip_longest(*groups) for fault in turn if fault is not None]


def _up_to(last: int) -> range:
    return range(1, last + 1)


def _draw_sizes(rng: random.Random, expected: Undisturbed) -> list[int]:
    """Draw sizes that are too small for some of the files, but not for what a command prints."""
    sizes = sorted({len(content) for content in expected.left.values() if len(content) > SMALLEST})
    return [rng.randint(SMALLEST, rng.choice(sizes)) for _ in range(SIZES)] if sizes else []


def fail_size(world: World, name: str, size: int, number: str, expected: Undisturbed) -> None:
    """Let no file become larger than a size, and do the same."""
    world.begin(name)
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    ended, printed = world.start(name, limit).wait(120)
    check_end(ended, printed)
    check_leftovers(world)
    check_rerun(world, name, expected)


def fail_write(world: World, name: str, nth: int, number: str, expected: Undisturbed) -> None:
    """Let one call that writes fail, check how the command ends, run it again, and compare what it leaves."""
    code = getattr(errno, number)

    def fail(path: str) -> None:
        raise OSError(code, os.strerror(code), path)

    world.begin(name)
    ended, printed = world.start(name, lambda: at_write(nth, fail, world.place)).wait(120)
    check_end(ended, printed)
    check_leftovers(world)
    check_rerun(world, name, expected)


def fail_request(world: World, name: str, nth: int, kind: str, expected: Undisturbed) -> None:
    """Let one request fail, or with `dead` all from then on, and do the same."""
    world.begin(name)
    part = {"part": "response"} if kind == "cut response" else {}
    times = 1_000_000 if kind == "dead" else 1
    word = "cut" if kind == "dead" else kind.split()[0]
    world.hub.faults.append(Fault(word, nth=nth, times=times, seconds=0.1, **part))
    ended, printed = world.start(name, _wait_little).wait(120)
    world.hub.faults.clear()
    check_end(ended, printed, refused=kind in ("401", "403"))
    check_leftovers(world)
    check_rerun(world, name, expected)


def _wait_little() -> None:
    """Let clients not wait before they try again."""
    wait = time.sleep
    time.sleep = lambda seconds: wait(min(seconds, 0.01))


def check_end(code: int, printed: str, *, refused: bool = False) -> None:
    """Check that a command succeeded, or failed with one line that says why; a refusal may be a wrong input."""
    lines = [line for line in printed.splitlines() if line.startswith("hf-paint: ")]
    codes = (0, 1, 2) if refused else (0, 1)
    if "Traceback" in printed or "Exception ignored" in printed or code not in codes or len(lines) != bool(code):
        raise AssertionError(f"exit code {code}: {printed[-1500:]}")


def check_leftovers(world: World) -> None:
    """Check that a command that failed has removed its temporary files."""
    left = [path for path in world.place.rglob("*") if LEFTOVER.search(path.name)]
    if left:
        raise AssertionError(f"left behind: {left}")
