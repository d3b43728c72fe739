"""Signals at random moments of runs, pushes and cache fills; after a rerun, every file is as if nothing had happened.

Each moment is drawn over the duration of an undisturbed command, or is its n-th call that writes, which can be
repeated exactly. Compared are all files that a command leaves: weights, checkpoints, records, selection, cards, plots,
reports, caches, and the branches on the Hub. Left out are lock files, which are empty and stay, and the
`verified.json` of the pixel cache, which says when files were last verified.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lanes import LANES, in_lanes
from tally import Budget, Tally

from disturbed import ENDS, INTERRUPTED, World, at_write, differences, start_process


COUNTS = {signal.SIGKILL: 100, signal.SIGTERM: 30, signal.SIGINT: 30}
COMMANDS = ("single", "sequential", "parallel", "push", "cache fill")
TIME_TO_END = 5.0
"""Seconds from a signal to the end of the process."""


@dataclass
class Undisturbed:
    """What a command takes and leaves if nothing disturbs it."""

    left: dict[str, bytes]
    seconds: float
    writes: int
    requests: int = 0


def torture(budget: Budget) -> Iterator[Tally]:
    """Yield a tally for each signal and command."""

    def work(world: World, lane: int) -> Iterator[Tally]:
        tallies = {(number, name): Tally(f"{number.name}, {name}") for number in COUNTS for name in COMMANDS}
        rng = budget.rng(f"kills {lane}")
        real = Tally("as users start it")
        known = {name: undisturbed(world, name) for name in COMMANDS}
        longest = max(command.seconds for command in known.values())
        for number, moment in zip(COUNTS, rng.sample([0.0, 1.0, 2.0], len(COUNTS)), strict=True):
            with real.attempt(f"{number.name} after {moment} s"):
                strike_process(world, number, moment, known["single"])
        for number, name in _drawn(rng):
            if budget.left < 3 * longest:
                break
            moment = draw(rng, known[name])
            with tallies[number, name].attempt(f"seed {budget.seed}, lane {lane}, {name}, {number.name} {moment}"):
                strike(world, name, number, moment, known[name])
        yield from (*tallies.values(), real)

    yield from in_lanes(work)


def _drawn(rng: random.Random) -> list[tuple[signal.Signals, str]]:
    """Return the attempts of one lane, shuffled, so that all kinds have their share if time runs out."""
    attempts = [
        (number, COMMANDS[index % len(COMMANDS)])
        for number, count in COUNTS.items()
        for index in range(-(-count // LANES))
    ]
    rng.shuffle(attempts)
    return attempts


def undisturbed(world: World, name: str) -> Undisturbed:
    """Run a command and note what it takes and leaves."""
    counted = world.folder / "writes"

    def count() -> None:
        at_write(0, lambda path: None, world.place, counted)

    world.begin(name)
    before = 0 if world.hub is None else len(world.hub.log)
    fork = world.start(name, count)
    code, printed = fork.wait(120)
    if code:
        raise AssertionError(printed)
    requests = 0 if world.hub is None else len(world.hub.log) - before  # before `left` asks the Hub, too
    return Undisturbed(world.left(name, printed), fork.seconds, len(counted.read_text().splitlines()), requests)


def draw(rng: random.Random, command: Undisturbed) -> float | int:
    """Draw a moment: seconds after the start, or the number of a call that writes."""
    return round(rng.uniform(0.01, command.seconds), 3) if rng.random() < 0.5 else rng.randint(1, command.writes)


def strike(world: World, name: str, number: signal.Signals, moment: float | int, expected: Undisturbed) -> None:
    """Send a signal to a command, check how it ends, run the command again, and compare what it leaves."""
    world.begin(name)
    if isinstance(moment, int):
        fork = world.start(name, lambda: at_write(moment, lambda _: os.kill(os.getpid(), number), world.place))
    else:
        fork = world.start(name)
        fork.ends_within(moment)
        fork.signal(number)
    check_end(number, *fork.wait(moment + TIME_TO_END if isinstance(moment, float) else 60))
    check_rerun(world, name, expected)


def strike_process(world: World, number: signal.Signals, moment: float, expected: Undisturbed) -> None:
    """Do the same to a process that is started as users do, which is still importing."""
    world.begin("single")
    with start_process(world.arguments("single"), HF_PAINT_CACHE=str(world.place / "cache")) as process:
        wait_for_handlers(process.pid)
        with suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        process.send_signal(number)
        printed, _ = process.communicate(timeout=TIME_TO_END)
    check_end(number, process.returncode, printed)
    check_rerun(world, "single", expected)


def wait_for_handlers(process: int) -> None:
    """Wait until a process handles signals, which Python does not while it starts."""
    while True:
        status = Path(f"/proc/{process}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        if caught & 1 << signal.SIGTERM - 1:
            return
        time.sleep(0.01)


def check_rerun(world: World, name: str, expected: Undisturbed) -> None:
    """Run a command again, and compare what it leaves with what an undisturbed one does."""
    if wrong := differences(world.run(name), expected.left):
        raise AssertionError(f"after a rerun: {', '.join(wrong[:8])}")


def check_end(number: signal.Signals, code: int, printed: str) -> None:
    """Check the exit code of a command that was sent a signal, and that it says one line about it."""
    if code not in (0, ENDS[number]):
        raise AssertionError(f"exit code {code}: {printed[-2000:]}")
    lines = printed.count(INTERRUPTED)
    if lines != (code in (130, 143)):
        raise AssertionError(f"{lines} lines say how to go on: {printed[-2000:]}")
    if "Traceback" in printed or "Exception ignored" in printed:
        raise AssertionError(printed[-2000:])
