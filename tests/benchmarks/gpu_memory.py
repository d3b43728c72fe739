"""The GPU check of memory that runs out: `auto_find_batch_size` ends with a batch that fits."""

from unittest.mock import patch

import torch
from gpu_figures import Figure, Figures, Setting
from gpu_training import card, make_training
from machines import Job, Plan
from simulation import training_memory
from towers import clip_config

from hf_paint import PaintTrainer


def memory(setting: Setting) -> Figures:
    """Less memory than the batch needs, with `auto_find_batch_size`, eager and compiled; simulated on a CPU."""
    if setting.device == "cpu":
        yield simulated_memory(setting)
        return
    total = torch.cuda.get_device_properties(0).total_memory
    for compiled, limit in ((False, 36e9), (True, 24e9)):
        training = make_training(setting, "ViT-L/14", auto_find_batch_size=True, torch_compile=compiled)
        training.num_steps = 2
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))
        used = setting.memory(lambda ways=training: ways.trainer(bf16=True))  # raises an error if no batch fits
        torch.cuda.set_per_process_memory_fraction(1.0)
        plan, job = Plan(compiled=compiled), Job(batch_size=training.batch_size, num_steps=1)
        whole = training_memory(clip_config("ViT-L/14"), card(), plan, job).total()
        yield Figure(
            name=f"ViT-L/14 in {limit / 1e9:.0f} GB with auto_find_batch_size{', compiled' * compiled}",
            value=used / 1e9,
            unit="GB",
            predicted=min(whole, limit) / 1e9,
            target=f"at most {limit / 1e9:.0f}",
            met=used <= limit,
        )
        del training


def simulated_memory(setting: Setting, *, fits: int = 2) -> Figure:
    """A step with more than a few images says that the memory is full, as a GPU does."""
    training = make_training(setting, "tiny", auto_find_batch_size=True)
    step, sizes = PaintTrainer.training_step, []

    def limited(self, model, inputs, *rest):
        sizes.append(len(inputs["labels"]))
        if sizes[-1] > fits:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return step(self, model, inputs, *rest)

    with patch.object(PaintTrainer, "training_step", limited):
        training.trainer(bf16=True)
    enough = sizes[-training.num_steps :]
    return Figure(
        name="out of memory, simulated, with auto_find_batch_size: images per step in the end",
        value=enough[-1],
        target=f"{fits}, from the first step on",
        met=enough == [fits] * training.num_steps and sizes[0] == training.batch_size,
    )
