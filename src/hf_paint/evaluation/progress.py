"""The progress of evaluation, counted in images, so that the time that is left takes all splits by their size."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

from accelerate import Accelerator
from tqdm.auto import tqdm


class EvaluationProgress:
    """Counts the images that an evaluator passes through image towers; outside of `over`, nothing is counted.

    Args:
        accelerator: Accelerator of the evaluator. Only the main process shows anything.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self._bar: tqdm[Never] | None = None

    @contextmanager
    def over(self, num_images: int, name: str) -> Iterator[None]:
        """Count the images that are evaluated inside the block.

        Args:
            num_images: Number of images to evaluate.
            name: What is done with them.
        """
        quiet = not self.accelerator.is_local_main_process
        with tqdm(total=num_images, desc=name, unit="image", unit_scale=True, smoothing=0, disable=quiet) as self._bar:
            yield
        self._bar = None

    def advance(self, num_images: int) -> None:
        """Count images that this process has evaluated; the others have done as many."""
        if self._bar is not None and self._bar.total is not None:
            left = self._bar.total - self._bar.n  # processes may repeat an image, so that all have equally many
            self._bar.update(min(num_images * self.accelerator.num_processes, left))

    def skip(self, num_images: int) -> None:
        """Leave images out, because they need not be evaluated."""
        if self._bar is not None and self._bar.total is not None:
            self._bar.total -= num_images

    def note(self, text: str) -> None:
        """Say what is being evaluated."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
