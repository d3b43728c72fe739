"""The linear classifier: epochs of head training on precomputed embeddings, against epochs of head and tower.

    python tests/benchmarks/linear_classifier.py [--rounds 5] [--threads N] [--quick] [--json FILE]

Both train a 1000-class head with the same training loop, in batches of 32. Only steps are timed, starting at the end
of the first one; pixels are decoded beforehand. A few end-to-end steps take as long as hundreds of head-only steps, so
rates are compared.
"""

import statistics
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from common import FOLDER, Row, Run, Target, arguments, compare, interleave, report, seconds
from datasets import ClassLabel, Dataset, Features, Image
from inputs import make_clip, make_processor
from PIL import Image as PILImage
from transformers import PrinterCallback

from hf_paint import ClassificationHead, HeadTrainer, PaintTrainer, PaintTrainingArguments, Task, prepare_task
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.models.towers import image_tower
from hf_paint.training.base_trainer import BaseTrainer
from training import StepClock


BATCH_SIZE = 32
NAMES = [f"class {index}" for index in range(1000)]


class Epochs:
    """Both ways of training on the same images.

    Args:
        num_steps: Number of steps in an end-to-end epoch; all but the first are timed.
        quick: Two layers instead of all.
    """

    def __init__(self, num_steps: int, *, quick: bool) -> None:
        self.num_steps = num_steps
        self.processor = make_processor(["a photo of a class 0123456789"], vocab_size=600)
        self.model = make_clip("ViT-B/32", self.processor, only="vision", quick=quick)
        self.task = drawn_task(FOLDER, num_steps * BATCH_SIZE)
        self.train_split = prepare_task(self.task, self.model, self.processor, splits=("train",))
        self.evaluator = Evaluator(Accelerator(cpu=True), precision="fp32")
        self.image_embeds, self.labels = self.embed()

    def embed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The one-time work of the linear classifier."""
        return self.evaluator.embed(image_tower(self.model).eval(), self.train_split, "train")

    def end_to_end(self) -> Run:
        """An epoch of `PaintTrainer` with `train_head`, in bfloat16."""
        args = training_arguments(self.num_steps, bf16=True, train_head=True, augmentation="none")
        return timed(partial(PaintTrainer, self.model, args, train_task=self.task, processing_class=self.processor))

    def head_alone(self, epochs: int) -> Run:
        """Epochs of `HeadTrainer`."""
        head = ClassificationHead.from_zero_shot(self.train_split.head, NAMES)
        args = training_arguments(epochs * self.num_steps)
        return timed(partial(HeadTrainer, head, args, image_embeds=self.image_embeds, labels=self.labels))


def main() -> None:
    """Measure epochs, and the cost of computing the embeddings before the first one."""
    parsed = arguments(__doc__)
    num_steps, num_epochs = (4, 5) if parsed.quick else (8, 20)
    epochs = Epochs(num_steps, quick=parsed.quick)
    ways = {"end to end": epochs.end_to_end, "head": partial(epochs.head_alone, num_epochs)}
    runs = interleave(ways | {"once": partial(seconds, epochs.embed)}, parsed.rounds)
    num_images = num_steps * BATCH_SIZE
    job = f"linear classifier, ViT-B/32{', two layers' if parsed.quick else ''}, cpu"
    work = num_images - BATCH_SIZE, num_epochs * num_images - BATCH_SIZE
    rates = compare(
        f"{job}, epochs of {num_images} images, head alone against end to end in bf16",
        runs["end to end"],
        runs["head"],
        unit="images",
        work=work,
        target=Target(speedup=20),
    )
    rate = num_images / statistics.median(run.seconds for run in runs["once"])
    report([rates, Row(job=f"{job}, embeddings, once, fp32", plain="", ours=f"{rate:.3g} images/s")], parsed)


def drawn_task(folder: Path, num_images: int) -> Task:
    """Write noise as the train split of a task of 1000 classes."""
    path = str(folder / "drawn.parquet")
    noise = torch.randint(0, 256, (num_images, 224, 224, 3), dtype=torch.uint8).numpy()
    rows = {
        "image": [PILImage.fromarray(pixels) for pixels in noise],
        "label": [7 * i % 1000 for i in range(num_images)],
    }
    Dataset.from_dict(rows, features=Features({"image": Image(), "label": ClassLabel(names=NAMES)})).to_parquet(path)
    definition = {
        "name": "drawn",
        "dataset": "parquet",
        "data_files": {"train": path},
        "templates": ["a photo of a {}."],
    }
    return Task.from_dict(definition | {"splits": {"train": "train", "validation": None, "test": None}})


def training_arguments(max_steps: int, **others: bool | str) -> PaintTrainingArguments:
    """The arguments for both kinds of training."""
    options = {"per_device_train_batch_size": BATCH_SIZE, "warmup_steps": 1, "use_cpu": True, "save_strategy": "no"}
    options |= {"logging_strategy": "no", "report_to": "none", "disable_tqdm": True, "max_steps": max_steps}
    return PaintTrainingArguments(output_dir=FOLDER / "run", **(options | others))


def timed(make: "partial[BaseTrainer]") -> Run:
    """Train, and return the time from the end of the first step to that of the last."""
    clock = StepClock()
    trainer = make(callbacks=[clock])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return Run(clock.seconds)


if __name__ == "__main__":
    main()
