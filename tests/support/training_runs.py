"""Short training runs of the tiny CLIP, and comparisons of their results."""

from transformers import TrainerCallback

from hf_paint import PaintTrainer, PaintTrainingArguments


ROUNDING_ONLY = ("k_proj.bias",)
"""The softmax cancels this bias: its gradient is rounding noise, which Adam blows up to full steps."""


def arguments(folder, **keys):
    defaults = {
        "learning_rate": 1e-3,
        "max_steps": 6,
        "warmup_steps": 2,
        "per_device_train_batch_size": 16,
        "save_strategy": "no",
        "logging_steps": 1,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
    }
    return PaintTrainingArguments(output_dir=str(folder), **(defaults | keys))


def make_trainer(model, processor, task, folder, *, callbacks=(), replay_tasks=(), **keys):
    options = {"train_task": task, "replay_tasks": replay_tasks, "processing_class": processor, "callbacks": callbacks}
    return PaintTrainer(model, arguments(folder, **keys), **options)


def train(model, processor, task, folder, resume=None, callbacks=(), **keys):
    trainer = make_trainer(model, processor, task, folder, callbacks=callbacks, **keys)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def largest_difference(model_a, model_b, *, without=()):
    a, b = model_a.state_dict(), model_b.state_dict()
    return max(float((a[name] - b[name]).abs().max()) for name in a if not name.endswith(without))


class StopAfter(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step
