"""The learning rate of the papers: linear warm-up that starts above zero, then a cosine to zero (released code)."""

import math


def paint_learning_rate(step: int, *, num_warmup_steps: int, num_training_steps: int) -> float:
    """Return the factor of the learning rate at a step of the papers' schedule.

    `(step + 1) / warmup` during warm-up, then half a cosine down to zero: `0.5 (1 + cos(pi (step - w) / (S - w)))`.
    """
    if step < num_warmup_steps:
        return (step + 1) / num_warmup_steps
    remaining = max(1, num_training_steps - num_warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * (step - num_warmup_steps) / remaining))
