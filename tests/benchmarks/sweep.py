"""The sweep over alpha: ours against the papers' released code.

    python tests/benchmarks/sweep.py [--rounds 5] [--threads N] [--device cpu] [--quick] [--json FILE]

The plain way decodes every image again at every alpha. Ours decodes each image once, and its time includes that. On a
GPU the model is a ViT-L/14 instead of a ViT-B/32. One row compares a sweep that records details for the report with
one that only records scores, both of decoded images and into a run folder.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from accelerate import Accelerator
from common import FOLDER, Row, Target, arguments, compare, interleave, report, seconds
from inputs import ProcessedImages, fine_tuned, make_clip, make_image_task, make_processor, share_of_peak
from torch.nn import functional
from torch.utils.data import DataLoader

from hf_paint import prepare_task, sweep_alphas
from hf_paint.data.splits import load_splits
from hf_paint.data.transforms import PixelTransform
from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.merging.path import Line
from hf_paint.models.towers import image_tower, image_tower_weights
from hf_paint.results.result_log import ResultLog


BATCH_SIZE = 128
Losses = list[float]


class Sweep:
    """Both ways of evaluating alphas on one split; each returns the mean loss at each alpha.

    Args:
        shape: The model.
        num_images: Images in the split.
        alphas: The alphas, 0 among them.
        device: `cpu` or `cuda`.
        quick: Two layers instead of all.
    """

    def __init__(self, shape: str, num_images: int, alphas: Sequence[float], *, device: str, quick: bool) -> None:
        self.alphas = alphas
        self.accelerator = Accelerator(cpu=device == "cpu")
        self.processor = make_processor(["a photo of a class 0123456789"], vocab_size=600)
        with torch.device(device):  # much faster than on a CPU
            self.model = make_clip(shape, self.processor, only="vision", quick=quick)
        self.theta_0 = {name: x.to("cpu", copy=True) for name, x in image_tower_weights(self.model).items()}
        self.theta_1 = fine_tuned(self.theta_0)
        self.tower = image_tower(self.model).to(device)
        self.task, self.kind = make_image_task(FOLDER, num_images)
        self.images = ProcessedImages(load_splits(self.task, ("test",))["test"], self.processor.image_processor)
        self.num_workers = 2 if device == "cpu" else torch.get_num_threads()

    @torch.no_grad()
    def plain(self) -> Losses:
        """A dict comprehension, `load_state_dict` and a pass over the files, for each alpha."""
        device, losses = self.tower.device, []
        head = self.prepare().head.to(device)
        for alpha in self.alphas:
            theta = {name: (1 - alpha) * self.theta_0[name] + alpha * self.theta_1[name] for name in self.theta_0}
            self.tower.load_state_dict(theta)
            total = 0.0
            for pixels, labels in DataLoader(self.images, batch_size=BATCH_SIZE, num_workers=self.num_workers):
                logits = head(self.tower(pixel_values=pixels.to(device)).image_embeds)
                total += float(functional.cross_entropy(logits, labels.to(device), reduction="sum"))
            losses.append(total / len(self.images))
        return losses

    def ours(self, evaluator: Evaluator) -> Losses:
        """`sweep_alphas`, including image decoding."""
        prepared = [self.prepare(forget_pixels=True)]
        curve = sweep_alphas(self.theta_0, self.theta_1, self.alphas, prepared, model=self.tower, evaluator=evaluator)
        return [result.loss for result in curve.results]

    def along(self, carrier: Carrier, evaluator: Evaluator, prepared: PreparedTask | None = None) -> Losses:
        """The work of `sweep_alphas` with an existing model, optionally compiled, and optionally predecoded images."""
        prepared = prepared or self.prepare(forget_pixels=True)
        with carrier.passes(len(self.alphas) * len(self.images)):
            predictions = [evaluator.predict(carrier.at(alpha), prepared, "test") for alpha in self.alphas]
        return [float(np.mean(prediction.loss, dtype=np.float64)) for prediction in predictions]

    def recorded(self, evaluator: Evaluator, prepared: PreparedTask, *, details: bool) -> Losses:
        """`sweep_alphas` of decoded images into a new run folder, with or without the details beside the scores."""
        log = ResultLog(tempfile.mkdtemp(dir=FOLDER))
        keys = {"model": self.tower, "evaluator": evaluator, "log": log}
        with ExitStack() as stack:
            if not details:
                stack.enter_context(patch("hf_paint.evaluation.sweep.details_of", lambda *_: None))
                stack.enter_context(patch("hf_paint.evaluation.predictions.NUM_CANDIDATES", 1))
            curve = sweep_alphas(self.theta_0, self.theta_1, self.alphas, [prepared], **keys)
        return [result.loss for result in curve.results]

    def prepare(self, *, forget_pixels: bool = False) -> PreparedTask:
        """Prepare the task; after the first call, the head comes from the cache."""
        if forget_pixels:
            shutil.rmtree(FOLDER / "cache/pixels", ignore_errors=True)
        return prepare_task(self.task, self.model, self.processor, splits=("test",), cache_dir=FOLDER / "cache")

    def evaluator(self, precision: str, **options: bool) -> Evaluator:
        """Make an evaluator."""
        return Evaluator(self.accelerator, precision=precision, **options)


def main() -> None:
    """Measure float32, bfloat16, and bfloat16 compiled."""
    parsed = arguments(__doc__)
    cpu = parsed.device == "cpu"
    shape, num_images, num_alphas = ("ViT-B/32", 128, 3) if cpu else ("ViT-L/14", 1024, 5)
    alphas = [step / num_alphas for step in range(num_alphas)]
    sweep = Sweep(shape, 16 if parsed.quick else num_images, alphas, device=parsed.device, quick=parsed.quick)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(FOLDER / "compiled")  # empty, so that compiling is measured
    compiled = sweep.evaluator("bf16", compile=True)
    carrier = Carrier(Line(sweep.theta_0, sweep.theta_1), sweep.tower, compiled)
    first = seconds(partial(sweep.along, carrier, compiled))
    decoded = sweep.prepare()
    ways = {
        "plain": sweep.plain,
        "fp32": partial(sweep.ours, sweep.evaluator("fp32")),
        "bf16": partial(sweep.ours, sweep.evaluator("bf16")),
        "bf16 compiled": partial(sweep.along, carrier, compiled),
        "bf16 compiled, images decoded before": partial(sweep.along, carrier, compiled, decoded),
    }
    losses = {name: np.array(way()) for name, way in ways.items()}
    runs = interleave({name: partial(seconds, way) for name, way in ways.items()}, parsed.rounds)
    job = f"sweep, {shape}{', two layers' if parsed.quick else ''}, {parsed.device}"
    job += f", {num_alphas} alphas x {sweep.kind}"
    fast = Target(speedup=4, aim=6)
    targets = {"fp32": Target(speedup=1.3), "bf16": fast, "bf16 compiled": fast} if cpu else {}
    work = num_alphas * len(sweep.images)
    rows = [
        compare(
            f"{job}, {name}",
            runs["plain"],
            runs[name],
            unit="images",
            work=(work, work),
            difference=float(np.abs(losses[name] / losses["plain"] - 1).max()),
            target=targets.get(name, Target()),
        )
        for name in list(ways)[1:]
    ]
    if not cpu:
        rate = work / min(run.seconds for run in runs["bf16 compiled, images decoded before"])
        rows.append(share_of_peak(f"{job}, images decoded before, best round", rate, sweep.tower.config))
    compiling = first.seconds - min(run.seconds for run in runs["bf16 compiled"])
    rows.append(Row(job=f"{job}, compiling, once", plain="", ours=f"{compiling:.3g} s"))
    rows.append(recording(sweep, job, decoded, parsed.rounds))
    report([*rows, decodings(sweep, job)], parsed)


def recording(sweep: Sweep, job: str, prepared: PreparedTask, rounds: int) -> Row:
    """Compare a sweep that records details with one that records only scores."""
    evaluator = sweep.evaluator("bf16")
    ways = {details: partial(sweep.recorded, evaluator, prepared, details=details) for details in (False, True)}
    losses = {details: np.array(way()) for details, way in ways.items()}
    runs = interleave({str(details): partial(seconds, way) for details, way in ways.items()}, rounds)
    return compare(
        f"{job}, details recorded, against scores only",
        runs["False"],
        runs["True"],
        difference=float(np.abs(losses[True] - losses[False]).max()),
        target=Target(speedup=0.99, difference=0),
    )


def decodings(sweep: Sweep, job: str) -> Row:
    """Count the images decoded by each implementation."""
    original = PixelTransform.resize_and_crop
    with patch.object(PixelTransform, "resize_and_crop", autospec=True, side_effect=original) as counted:
        sweep.ours(sweep.evaluator("bf16"))
    each, count = len(sweep.images), counted.call_count
    plain = f"{each * len(sweep.alphas)} images"
    return Row(job=f"{job}, decoded", plain=plain, ours=f"{count} images", target="each once", met=count == each)


if __name__ == "__main__":
    main()
