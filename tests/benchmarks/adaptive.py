"""The adaptive sweep on real images: its cost and errors compared with a full sweep of 101 alphas.

    python tests/benchmarks/adaptive.py [--threads N] [--quick] [--json FILE]

A small real CLIP is fine-tuned on MNIST; CIFAR-10 is the supported task. Needs the reference data beside the
checkout. Each sweep runs once, because the number of evaluations is deterministic.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator
from common import FOLDER, Row, Run, arguments, compare, report
from inputs import SHARED
from transformers import PrinterCallback

from hf_paint import AlphaCurve, PaintTrainer, PaintTrainingArguments, get_task, prepare_task, sweep_alphas
from hf_paint.evaluation.adaptive_sweep import sweep_adaptively
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.predictions import Predictions
from hf_paint.models.loading import load_clip
from hf_paint.models.towers import image_tower, image_tower_weights


TASKS = Path(__file__).parents[1] / "acceptance/tasks"
MAX_EVALUATIONS = 12
MAX_ERROR = 0.1
"""In points of accuracy."""


class Swept(NamedTuple):
    """A sweep's curve, its time, and its work in evaluations of the whole image set."""

    curve: AlphaCurve
    run: Run
    evaluations: float


class CountingEvaluator(Evaluator):
    """Counts the images that pass through the model."""

    num_images = 0

    def predict(self, tower: Any, task: Any, split: str, *, indices: Any = None) -> Predictions:
        """Count these images, and predict them."""
        self.num_images += len(task.images[split]) if indices is None else len(indices)
        return super().predict(tower, task, split, indices=indices)


def main() -> None:
    """Fine-tune, sweep both ways and compare all accuracies."""
    parsed = arguments(__doc__)
    if not SHARED.exists():
        print("adaptive sweep: skipped, the reference data is not there")
        return
    model, processor, _ = load_clip(str(SHARED / "models/tiny-clip"))
    tasks = [get_task(TASKS / f"{name}.yaml") for name in ("mnist", "cifar10")[: 1 if parsed.quick else 2]]
    prepared = [prepare_task(task, model, processor, splits=("test",)) for task in tasks]
    theta_0 = {name: tensor.clone() for name, tensor in image_tower_weights(model).items()}
    options = {"learning_rate": 3e-4, "per_device_train_batch_size": 64, "augmentation": "none", "warmup_steps": 0.1}
    options |= {"bf16": True, "use_cpu": True, "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}
    args = PaintTrainingArguments(output_dir=FOLDER / "run", max_steps=20 if parsed.quick else 150, **options)
    trainer = PaintTrainer(model, args, train_task=tasks[0], processing_class=processor)
    trainer.remove_callback(PrinterCallback)
    trainer.train()

    num_images = sum(len(task.images["test"]) for task in prepared)

    def sweep(way: Any) -> Swept:
        evaluator, start = CountingEvaluator(Accelerator(cpu=True), precision="bf16"), time.perf_counter()
        theta_1, tower = image_tower_weights(model), image_tower(model).eval()
        curve = way(theta_0, theta_1, alphas, prepared, model=tower, evaluator=evaluator)
        taken = time.perf_counter() - start
        return Swept(curve, Run(taken), evaluator.num_images / num_images)

    last = 10 if parsed.quick else 100
    alphas = [step / last for step in range(last + 1)]
    names = " and ".join(task.name for task in tasks)
    job = f"adaptive sweep, tiny-clip on {names}, {len(alphas)} alphas x {num_images} images, bf16, one run"
    report(rows(job, sweep(sweep_alphas), sweep(sweep_adaptively)), parsed)


def rows(job: str, full: Swept, adaptive: Swept) -> list[Row]:
    """Compare the work, the accuracies and the times."""
    errors = []
    for found in adaptive.curve.results:
        exact = full.curve.get(found.alpha, found.role, found.task, found.split)
        errors.append(100 * abs(exact.accuracy - found.accuracy))
    work = Row(
        job=f"{job}: work and accuracy",
        plain=f"{full.evaluations:.0f} evaluations",
        ours=f"{adaptive.evaluations:.1f} evaluations",
        ratio=f"{full.evaluations / adaptive.evaluations:.1f}",
        difference=f"{max(errors):.3f} points, {sum(errors) / len(errors):.3f} on average",
        target=f"at most {MAX_EVALUATIONS} evaluations and {MAX_ERROR} points",
        met=adaptive.evaluations <= MAX_EVALUATIONS and round(max(errors), 6) <= MAX_ERROR,
    )
    return [work, compare(f"{job}: time", [full.run], [adaptive.run])]


if __name__ == "__main__":
    main()
