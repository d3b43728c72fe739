"""The GPU check of the input pipeline: what it feeds to the trainer, beside what the card trains on.

Pictures are decoded once before the clock starts, as in a training of several epochs.
"""

from unittest.mock import patch

import numpy as np
from common import FOLDER
from datasets import ClassLabel, Dataset as Table, Features, Image
from gpu_figures import Figure, Figures, Setting
from gpu_training import card
from inputs import make_image_task, make_processor
from machines import Plan
from PIL import Image as PILImage
from simulation import feeding_rate, training_rate
from towers import clip_config
from transformers import PrinterCallback, TrainerCallback

from hf_paint import PaintTrainer, PaintTrainingArguments, Task
from hf_paint.training import augmenting, workers
from training import Training, now


WAYS = {
    "no workers, Pillow": {"dataloader_num_workers": 0, "augmentation_device": "cpu"},
    "chosen workers, Pillow": {"augmentation_device": "cpu"},
    "chosen workers, on the card": {"augmentation_device": "cuda"},
}
MIN_SHARE = 0.95


def pipeline(setting: Setting) -> Figures:
    """Images per second of training from JPEGs and from small pictures, beside pixels that are on the device."""
    batch, large, small = (4, 12, 12) if setting.tiny else (256, 8192, 12288)
    training = Training(setting.shape("ViT-B/32"), setting.device, batch, 1, quick=setting.tiny)
    pure = from_memory(training, 3 if setting.tiny else 30)
    trains = training_rate(clip_config("ViT-B/32"), card(), Plan(), batch)
    yield Figure(
        name=f"ViT-B/32, batch {batch}, pixels on the device",
        value=pure,
        unit="images/s",
        predicted=setting.predicted(trains),
    )
    jpegs, kind = make_image_task(FOLDER, large)
    for task, name in ((small_pictures(small), f"{small} pictures of 28x28"), (jpegs, kind)):
        trained = Task.from_dict(task.to_dict() | {"splits": {"train": "test", "validation": None, "test": None}})
        for way, options in list(WAYS.items())[2 if setting.tiny else 0 :]:
            if setting.tiny:
                skipped, steps = 1, 3
            else:  # what workers have prepared before the clock starts is not counted
                skipped, steps = (1, 4) if options.get("dataloader_num_workers") == 0 else (48, 96)
            rate, chosen = from_task(training, trained, skipped, steps, options)
            share = rate / pure
            goal = setting.goal(f"at least {MIN_SHARE:.0%}", share >= MIN_SHARE) if "card" in way else {}
            predicted = feeding_rate(trains, card(), workers=None if "card" in way else chosen)
            yield Figure(
                name=f"from {name}, {way}",
                value=rate,
                unit="images/s",
                beside=pure,
                predicted=setting.predicted(predicted) if task is jpegs else None,
                note=f"{share:.0%} of the card, {chosen} workers",
                **goal,
            )


def small_pictures(number: int) -> Task:
    """Write pictures of the size of MNIST as a task's test split."""
    pixels = np.random.default_rng(0).integers(0, 256, (number, 28, 28), dtype=np.uint8)
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    rows = {"image": [PILImage.fromarray(x) for x in pixels], "label": [index % 2 for index in range(number)]}
    path = FOLDER / "small.parquet"
    Table.from_dict(rows, features=features).to_parquet(path)
    keys = {"name": "small", "dataset": "parquet", "data_files": {"test": str(path)}, "templates": ["a {}."]}
    return Task.from_dict(keys | {"splits": {"train": None, "validation": None, "test": "test"}})


class Clock(TrainerCallback):
    """Measures the time from the end of one step to the end of the last."""

    def __init__(self, skipped: int) -> None:
        self.skipped = skipped

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.skipped:
            self.start = now(args.device)
        if state.global_step == args.max_steps:
            self.seconds = now(args.device) - self.start


def from_memory(training: Training, steps: int) -> float:
    """Return the images per second of training on pixels that are on the device, after the first step."""
    training.num_steps = steps
    pixels = training.images.pixels.to(training.device)
    images = [{"pixel_values": pixels[0], "labels": 0}] * (training.batch_size * steps)
    data = {"train_dataset": images, "head": training.head}
    options = {"train_sampling_strategy": "sequential", "dataloader_pin_memory": False}
    return run(training, data, 1, steps, training.processor, options)[0]


def from_task(
    training: Training, task: Task, skipped: int, steps: int, options: dict[str, object]
) -> tuple[float, int]:
    """Return the images per second of training on a task, after some steps, and the number of workers.

    Workers and the cache are used as in a training that is long enough for them.
    """
    processor = make_processor(["a photo of a class 0123456789"], vocab_size=600)
    with patch.object(workers, "MIN_SECONDS", 0.0), patch.object(augmenting, "MIN_SAVED", 0):
        return run(training, {"train_task": task}, skipped, steps, processor, options)


def run(training, data, skipped, steps, processor, options) -> tuple[float, int]:
    """Train, and return the images per second and the number of workers."""
    training.model.load_state_dict(training.weights)
    keys = {"max_steps": steps, "per_device_train_batch_size": training.batch_size, "warmup_steps": 1, "bf16": True}
    keys |= {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_strategy": "no"}
    keys |= {"use_cpu": training.device.type == "cpu", **options}
    args, clock = PaintTrainingArguments(output_dir=FOLDER / "run", **keys), Clock(skipped)
    trainer = PaintTrainer(training.model, args, processing_class=processor, callbacks=[clock], **data)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return training.batch_size * (steps - skipped) / clock.seconds, trainer.args.dataloader_num_workers
