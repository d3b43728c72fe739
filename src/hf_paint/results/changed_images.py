"""Images that patching changes, and a choice of them to show."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


NUM_EXAMPLES = 12
"""Maximum number of images to show per task."""
WAYS = ("right", "wrong")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Changes:
    """Which images of a task are classified correctly by which model, each array of shape (num_images,).

    Attributes:
        before: By the zero-shot model.
        after: By the patched model.
        fine_tuned: By the fine-tuned model; None if it was not evaluated.
    """

    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    fine_tuned: NDArray[np.bool_] | None = None

    @property
    def kinds(self) -> NDArray[np.int64]:
        """Kind of each image: 0 if patching changes it, 1 if only fine-tuning does, and else 2."""
        by_training = self.before != (self.before if self.fine_tuned is None else self.fine_tuned)
        kinds: NDArray[np.int64] = np.where(self.before != self.after, 0, np.where(by_training, 1, 2))
        return kinds

    def choose(self, *, count: int = NUM_EXAMPLES, seed: int = 0) -> NDArray[np.int64]:
        """Choose images at random: those that patching changes, those that only fine-tuning changes, then others.

        Of the images that change, those that become wrong and those that become right take turns.

        Args:
            count: Maximum number of images.
            seed: Random seed.

        Returns:
            Indices of the images, shape (count,).

        Example:
            >>> changes = Changes(before=np.array([True, False, True]), after=np.array([True, True, True]))
            >>> changes.choose(count=1)
            array([1])
        """
        order = np.random.default_rng(seed).permutation(len(self.before))
        kinds, was_wrong = self.kinds[order], ~self.before[order]
        groups = 2 * kinds + (was_wrong & (kinds < 2))
        turns = np.empty_like(order)
        for group in range(5):
            turns[groups == group] = np.arange((groups == group).sum())
        chosen: NDArray[np.int64] = order[np.lexsort((was_wrong, turns, kinds))][:count]
        return chosen

    def describe(self, chosen: NDArray[np.int64], *, images: str) -> str:
        """Return a sentence that says how images were chosen.

        Example:
            >>> changes = Changes(before=np.array([True, False]), after=np.array([True, True]))
            >>> changes.describe(changes.choose(), images="2 images")
            'Drawn at random from 2 images: 1 of the 1 that changed (1 of 1 now right, 0 of 0 now wrong), and 1 other.'
        """
        kinds = self.kinds
        of_kind = [(int((kinds[chosen] == kind).sum()), int((kinds == kind).sum())) for kind in range(3)]
        ways = (kinds == 0) & ~self.before, (kinds == 0) & self.before
        right, wrong = (f"{way[chosen].sum()} of {way.sum()} now {name}" for way, name in zip(ways, WAYS, strict=True))
        parts = [f"{of_kind[0][0]} of the {of_kind[0][1]} that changed ({right}, {wrong})"]
        if of_kind[1][0]:
            parts.append(f"{of_kind[1][0]} of the {of_kind[1][1]} that only fine-tuning changes")
        if others := of_kind[2][0]:
            parts.append(f"{others} other{'s' if others > 1 else ''}")
        listed = ", and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
        return f"Drawn at random from {images}: {listed}."
