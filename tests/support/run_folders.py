"""Run folders with made-up records, as large as wanted, written without a model."""

import numpy as np
import yaml
from PIL import Image as PILImage

from hf_paint.files import write_json
from hf_paint.results.alphas import format_alpha
from hf_paint.results.calibration import Calibration
from hf_paint.results.details import Answers, Confusion, Details, sample_images
from hf_paint.results.records import Result


CHOSEN = {
    **{"alpha": 1.0, "rule": "mean", "tolerance": 0.01, "num_alphas": 3},
    **{"chosen_on": "validation", "reported_on": "test"},
}
"""Contents of a `selection.json`."""


def write_run(folder, *, tasks=2, alphas=(0.0, 0.5, 1.0), classes=5, images=200, pictures=0, split="test"):
    """Write a finished single run: the first task is patched, the others are supported.

    With alpha, images of the patching task become right one after another, and those of the others wrong. Returns
    (task, alpha) -> labels, predicted classes and confidences.
    """
    (folder / "correct").mkdir(parents=True)
    names = [f"task{i}" for i in range(tasks)]
    class_names = [f"class {i}" for i in range(classes)]
    records, details, truth = [], [], {}
    for number, name in enumerate(names):
        generator = np.random.default_rng(number)
        labels, others = generator.integers(classes, size=(2, images))
        others = np.where(others == labels, (labels + 1) % classes, others)
        thresholds, sample = generator.random(images), sample_images(np.arange(images))
        for alpha in alphas:
            share = 0.3 + 0.5 * alpha if number == 0 else 0.9 - 0.1 * alpha**2
            correct = thresholds < share
            predicted = np.where(correct, labels, others)
            confidence = (0.4 + 0.6 * thresholds).astype(np.float32)
            truth[name, alpha] = labels, predicted, confidence
            bins = Calibration.of(confidence, correct)
            for kind in ("validation", split):
                result = Result(
                    alpha=alpha, task=name, role="supported" if number else "patching", split=kind,
                    correct=int(correct.sum()), total=images, weights=f"weights-{alpha}", data=f"data-{kind}",
                    correct_file=f"correct/{name}-{kind}-{format_alpha(alpha)}.npy", ece=bins.ece, loss=1.0,
                )  # fmt: skip
                records.append(result)
                np.save(folder / result.correct_file, correct)
                if kind == split:
                    answers = Answers(
                        images=sample,
                        candidates=np.stack([predicted, others, labels], axis=1)[sample],
                        probabilities=np.stack([confidence, 1 - confidence, 0 * confidence], axis=1)[sample],
                    )
                    found = Details(
                        calibration=bins,
                        confusion=Confusion.of(labels, predicted),
                        answers=answers,
                    )
                    details.append(found.to_json(result))
    _write_lines(folder / "results.jsonl", [record.to_json() for record in records])
    _write_lines(folder / "details.jsonl", details)
    _write_pictures(folder, names, pictures, split)
    recipe = {"model": str(folder.parent / "clip"), "strategy": "single", "patching_tasks": names[:1]}
    recipe |= {"supported_tasks": names[1:], "alphas": list(alphas), "selection": "mean", "tolerance": 0.01}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    write_json(folder / "selection.json", CHOSEN | {"alpha": alphas[-1], "reported_on": split})
    write_json(folder / "card.json", {"class_names": class_names[:3], "versions": {}, "base_license": "mit"})
    stored = [{"name": name, "class_names": class_names, "templates": ["a photo of a {}."]} for name in names]
    write_json(folder / "tasks.json", {"format_version": 1, "tasks": stored})
    products = {layer: [[4.0, 1.0], [1.0, 9.0]] for layer in ("all", "layer 0")}
    write_json(folder / "changes.json", {"models": ["theta_1"], "products": products})
    return truth


def _write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))


def _write_pictures(folder, names, pictures, split):
    """Write this many pictures of noise, the same number for each task."""
    generator, found = np.random.default_rng(0), {}
    for name in names[:pictures]:
        (folder / "examples" / name).mkdir(parents=True)
        listed = []
        for index in range(pictures // len(names) or 1):
            file = f"{name}/{index}.jpg"
            noise = generator.integers(256, size=(28, 28, 3), dtype=np.uint8)
            PILImage.fromarray(noise).resize((224, 224)).save(folder / "examples" / file, quality=80)
            none = {"written": None, "question": None, "candidates": None}
            listed.append({"file": file, "index": index, "labels": [0], **none})
        found[name] = {
            "role": "patching",
            "split": split,
            "alpha": 1.0,
            "note": "Pictures of noise.",
            "pictures": listed,
        }
    if found:
        write_json(folder / "examples" / "examples.json", found)
