"""The reference run: our recipe against numbers from the papers' released code."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from hf_paint import AlphaCurve, Task, build_zero_shot_head, interpolate, prepare_task
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.models.loading import load_clip
from hf_paint.models.towers import image_tower_weights


ALPHAS_WITH_LOGITS = (0.0, 0.3, 0.5, 1.0)


@dataclass(frozen=True)
class Deviations:
    """Largest differences between our run and the reference: accuracies in points, the rest absolute or relative."""

    head: float
    first_losses: float
    all_losses: float
    logits: float
    accuracy: float

    def rows(self) -> list[tuple[str, float, float]]:
        """Rows of (name, measured value, limit)."""
        return [
            ("head, absolute", self.head, 1e-5),
            ("loss of the first 20 steps, absolute", self.first_losses, 1e-4),
            ("loss of all 128 steps, relative", self.all_losses, 0.01),
            ("logits from its theta_1 at four alphas, absolute", self.logits, 1e-4),
            ("test accuracy at eleven alphas, points", self.accuracy, 0.5),
        ]


def compare(run_folder: Path, oracle: Path, task: Task) -> Deviations:
    """Compare a finished run of reference_run.yaml with the oracle."""
    expected = json.loads((oracle / "expected.json").read_text())
    tensors = load_file(oracle / "expected.safetensors")
    model, processor, _ = load_clip(str(oracle / "model"))
    prepared = prepare_task(task, model, processor, splits=("test",))
    head = build_zero_shot_head(model, processor.tokenizer, prepared.class_names, task.templates)
    losses = _losses(run_folder)
    differences = [abs(a - b) for a, b in zip(losses, expected["losses"], strict=True)]
    curve = AlphaCurve.from_run(run_folder)
    points = [
        100 * abs(float(curve.mean_accuracy(float(alpha), "patching", "test")) - accuracy)
        for alpha, accuracy in expected["accuracy"].items()
    ]
    return Deviations(
        head=float((head.weight * head.logit_scale - tensors["head.weight_times_scale"]).abs().max()),
        first_losses=max(differences[:20]),
        all_losses=max(d / loss for d, loss in zip(differences, expected["losses"], strict=True)),
        logits=_logits(model, prepared, tensors),
        accuracy=max(points),
    )


def _losses(run_folder: Path) -> list[float]:
    [state] = run_folder.glob("checkpoint-128/trainer_state.json")
    return [entry["loss"] for entry in json.loads(state.read_text())["log_history"] if "loss" in entry]


@torch.inference_mode()
def _logits(model: torch.nn.Module, prepared: PreparedTask, tensors: dict[str, torch.Tensor]) -> float:
    """Compare our logits for the first 64 test images with the reference's, both from the reference's theta_1."""
    theta_0 = {name: tensor.clone() for name, tensor in image_tower_weights(model).items()}
    theta_1 = {name: tensors[f"theta_1.{name}"] for name in theta_0}
    pixels = prepared.images["test"].__getitems__(list(range(64)))["pixel_values"]
    largest = 0.0
    for alpha in ALPHAS_WITH_LOGITS:
        model.load_state_dict(interpolate(theta_0, theta_1, alpha), strict=False)
        embeds = model.get_image_features(pixel_values=prepared.transform.normalize(pixels)).pooler_output
        difference = prepared.head(embeds) - tensors[f"logits.alpha-{alpha:.2f}"]
        largest = max(largest, float(difference.abs().max()))
    return largest
