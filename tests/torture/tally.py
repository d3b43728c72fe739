"""What a part of the torture counts, and the time that it may take."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """One row of the table: how often something was tried, and what was lost.

    Attributes:
        kind: What was done, e.g. `SIGKILL, single`.
        tried: Number of attempts.
        lost: A line for each attempt that lost something: how to repeat it, and what was found.
        notes: Figures worth keeping, e.g. `peak memory` -> `812 MB`.
    """

    kind: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def survived(self) -> int:
        """Number of attempts that lost nothing."""
        return self.tried - len(self.lost)

    @contextmanager
    def attempt(self, how: str) -> Iterator[None]:
        """Count an attempt; an exception in the block means that something was lost.

        Args:
            how: How to repeat this attempt, e.g. the seed and the moment.
        """
        self.tried += 1
        try:
            yield
        except Exception as error:
            self.lost.append(f"{how}: {type(error).__name__}: {error}")


@dataclass(slots=True)
class Budget:
    """Time and randomness of one part.

    Attributes:
        seconds: Time that the part may take; it stops before an attempt that would not fit.
        seed: Seed of everything that is drawn.
    """

    seconds: float
    seed: int = 0
    _started: float = field(default_factory=time.monotonic)

    def rng(self, name: str) -> random.Random:
        """Return a generator that depends on the seed and this name only, whatever else was drawn before."""
        return random.Random(f"{self.seed} {name}")

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - (time.monotonic() - self._started)

    def share(self, part: float) -> "Budget":
        """Return a budget of a part of the seconds that are left, starting now."""
        return Budget(self.left * part, self.seed)
