"""Fine-tuning: `PaintTrainer` against a bare loop, its overhead, and the effect of bfloat16 on the loss.

    python tests/benchmarks/training.py [--rounds 5] [--threads N] [--device cpu] [--quick] [--json FILE]

Images are in memory, and only the steps after the first are timed. On a GPU the model is a
ViT-L/14 instead of a ViT-B/32.
"""

import statistics
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import torch
from common import FOLDER, Row, Run, Target, arguments, compare, interleave, report
from inputs import DrawnImages, make_clip, make_processor, share_of_peak
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback

from hf_paint import PaintTrainer, PaintTrainingArguments, build_zero_shot_head
from hf_paint.data.images import collate
from hf_paint.data.transforms import PixelTransform
from hf_paint.models.towers import attention, image_tower


MAX_OVERHEAD = 0.05
MAX_LOSS_DIFFERENCE = 0.01


class StepClock(TrainerCallback):
    """Records the end of the first and of the last step."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self.start = now(args.device)
        if state.global_step == args.max_steps:
            self.seconds = now(args.device) - self.start


class Training:
    """Ways of fine-tuning a model, each with the same initial weights and the same batches.

    Args:
        shape: The model.
        device: `cpu` or `cuda`.
        batch_size: Images per step.
        num_steps: Steps of a run; all but the first are timed.
        quick: Two layers instead of all.
    """

    def __init__(self, shape: str, device: str, batch_size: int, num_steps: int, *, quick: bool) -> None:
        names = ["red", "green", "blue", "cyan", "magenta", "yellow", "black", "white"]
        self.processor = make_processor(names, vocab_size=300)
        with torch.device(device):  # much faster than on a CPU
            self.model = make_clip(shape, self.processor, only="vision", quick=quick)
        self.weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.head = build_zero_shot_head(self.model, self.processor.tokenizer, names, ["{}"])
        self.images = DrawnImages(batch_size * num_steps, num_classes=len(names))
        self.device, self.batch_size, self.num_steps = torch.device(device), batch_size, num_steps
        self.options: dict[str, bool] = {}
        self.callbacks: list[TrainerCallback] = []

    def bare(self, *, bf16: bool, compiled: bool = False) -> Run:
        """A loop over the batches: the plain one in float32, or one with the arithmetic of our trainer."""
        self.model.load_state_dict(self.weights)
        for layer in self.model.vision_model.encoder.layers:
            layer._compiled_call_impl = None
            if compiled:
                layer.compile(dynamic=False)
        tower, head = image_tower(self.model).train().to(self.device), self.head.to(self.device)
        parameters, transform = list(tower.parameters()), PixelTransform(self.processor)
        optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.1, fused=bf16, foreach=not bf16)
        eager = bf16 and self.device.type == "cpu"
        with attention(tower, "eager") if eager else nullcontext():
            for step, batch in enumerate(DataLoader(self.images, self.batch_size, collate_fn=collate)):
                pixels = transform.normalize(batch["pixel_values"].to(self.device))
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                    image_embeds = tower(pixel_values=pixels).image_embeds
                loss = functional.cross_entropy(head(image_embeds.float()), batch["labels"].to(self.device))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                optimizer.zero_grad()
                if step == 0:
                    start = now(self.device)
        for layer in self.model.vision_model.encoder.layers:
            layer._compiled_call_impl = None
        return Run(now(self.device) - start)

    def trainer(self, *, bf16: bool, logging_steps: int = 0) -> tuple[Run, list[float]]:
        """`PaintTrainer`; returns the time and the losses that it logged."""
        self.model.load_state_dict(self.weights)
        options = {"max_steps": self.num_steps, "per_device_train_batch_size": self.batch_size, "warmup_steps": 1}
        options |= {"train_sampling_strategy": "sequential", "bf16": bf16, "use_cpu": self.device.type == "cpu"}
        options |= {"logging_strategy": "steps" if logging_steps else "no", "logging_steps": logging_steps or 1}
        options |= {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, **self.options}
        args, clock = PaintTrainingArguments(output_dir=FOLDER / "run", **options), StepClock()
        data = {"train_dataset": self.images, "head": self.head, "processing_class": self.processor}
        trainer = PaintTrainer(self.model, args, **data, callbacks=[clock, *self.callbacks])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return Run(clock.seconds), [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def main() -> None:
    """Measure steps, the overhead of the trainer, and the loss."""
    parsed = arguments(__doc__)
    cpu = parsed.device == "cpu"
    shape, batch_size, num_steps = ("ViT-B/32", 32, 7) if cpu else ("ViT-L/14", 64, 21)
    if parsed.quick:
        batch_size, num_steps = 4, 3
    training = Training(shape, parsed.device, batch_size, num_steps, quick=parsed.quick)
    runs = interleave(
        {
            "plain": partial(training.bare, bf16=False),
            "bare bf16": partial(training.bare, bf16=True),
            "ours": lambda: training.trainer(bf16=True)[0],
        },
        parsed.rounds,
    )
    job = f"training, {shape}{', two layers' if parsed.quick else ''}, {parsed.device}"
    steps, images = f"{num_steps - 1} steps of batch {batch_size}", batch_size * (num_steps - 1)
    options = {"unit": "images", "work": (images, images)}
    target = Target(speedup=2.5) if cpu else Target()
    faster = compare(f"{job}, {steps}, bf16 against fp32", runs["plain"], runs["ours"], target=target, **options)
    target = Target(speedup=1 / (1 + MAX_OVERHEAD))
    bare = compare(
        f"{job}, {steps}, PaintTrainer against a bare bf16 loop",
        runs["bare bf16"],
        runs["ours"],
        target=target,
        **options,
    )
    rows = [faster, replace(bare, target=f"at most {MAX_OVERHEAD:.0%} slower")]
    if not cpu:
        rate = images / statistics.median(run.seconds for run in runs["ours"])
        rows.append(share_of_peak(job, rate, training.model.config.vision_config, passes=3))
    num_steps, batch_size = (20, 2) if parsed.quick else (200, 4)
    report([*rows, parity(job, Training(shape, parsed.device, batch_size, num_steps, quick=parsed.quick))], parsed)


def parity(job: str, training: Training) -> Row:
    """Compare the losses of float32 and bfloat16, each a mean over a tenth of the steps."""
    tenth = training.num_steps // 10
    fp32, bf16 = (training.trainer(bf16=bf16, logging_steps=tenth)[1] for bf16 in (False, True))
    difference = max(abs(found / expected - 1) for expected, found in zip(fp32, bf16, strict=True))
    return Row(
        job=f"{job}, loss of {training.num_steps} steps of batch {training.batch_size}, in means of {tenth}",
        plain=f"{fp32[0]:.4f} to {fp32[-1]:.4f} in fp32",
        ours=f"{bf16[0]:.4f} to {bf16[-1]:.4f} in bf16",
        difference=f"{difference:.2%}",
        target=f"at most {MAX_LOSS_DIFFERENCE:.0%}",
        met=difference <= MAX_LOSS_DIFFERENCE,
    )


def now(device: torch.device) -> float:
    """Return the time after all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
