"""How much memory a training step needs with each setting that saves some, as predicted from the model's sizes.

    python tests/benchmarks/settings_memory.py

One GPU, bfloat16, 128 images per step. Nothing is measured; `make gpu` compares the first row with a card.
"""

from dataclasses import replace

from machines import PRESETS, Job, Plan
from simulation import training_memory
from towers import clip_config


GB = 1e9
SHAPES = ("ViT-B/32", "ViT-L/14", "ViT-bigG/14")
PLANS = (
    Plan(name="as it is"),
    Plan(name="gradient_accumulation_steps: 2", micro_batch=64),
    Plan(name="gradient_accumulation_steps: 8", micro_batch=16),
    Plan(name="gradient_checkpointing: true", checkpointing=True),
    Plan(name="both: 8 and true", micro_batch=16, checkpointing=True),
    Plan(name="use_peft: true", lora_rank=16),
    Plan(name="all three", micro_batch=16, checkpointing=True, lora_rank=16),
)


def table() -> list[list[str]]:
    """Return the rows: a setting, and the gigabytes that it needs for each model."""
    machine = replace(PRESETS[0], devices=1)
    rows = [["setting", *SHAPES]]
    for plan in PLANS:
        totals = [training_memory(clip_config(shape), machine, plan, Job()).total() for shape in SHAPES]
        rows.append([plan.name, *(f"{total / GB:.1f}" for total in totals)])
    return rows


if __name__ == "__main__":
    for row in table():
        print(f"| {' | '.join(row)} |")
