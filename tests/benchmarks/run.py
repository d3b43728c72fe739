"""`make benchmark`: our way against the plain way of doing the same, interleaved in one run, medians of five.

    python tests/benchmarks/run.py [--rounds 5]

Weights are random and images are noise: only times are measured here, and that both ways agree. On shared machines
absolute times vary; the ratios of one run are what to read.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer


sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import write_task
from hf_paint import PaintTrainer, PaintTrainingArguments, build_zero_shot_head, interpolate, prepare_task
from hf_paint.evaluator import Evaluator
from hf_paint.interpolation import interpolated
from hf_paint.modeling import image_tower, image_tower_weights


ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
Way = Callable[[], torch.Tensor]


def main() -> None:
    """Time each job both ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    processor = make_processor()
    jobs = {
        "head, 25 classes x 8 templates, text tower of ViT-B/32": head_ways(processor),
        "interpolation in memory, image tower of ViT-B/32": interpolation_ways(),
        "sweep, 5 alphas x 200 JPEGs of 500x375, small tower": sweep_ways(processor),
        "training, 8 steps of batch 32 with start-up, small tower": training_ways(processor),
    }
    print("| job | plain way, s | hf_paint, s | ratio, median (min to max) | largest difference |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (plain, ours) in jobs.items():
        difference = float((plain() - ours()).abs().max())
        times = [(seconds(plain), seconds(ours)) for _ in range(rounds)]
        ratios = [a / b for a, b in times]
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {name} | {medians[0]:.3f} | {medians[1]:.3f} | {spread} | {difference:.1e} |", flush=True)


def seconds(way: Way) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def make_processor() -> CLIPProcessor:
    """A processor with a small vocabulary for images of 64 pixels."""
    tokenizer = CLIPTokenizer().train_new_from_iterator(["a photo of the number one, two and three"], vocab_size=400)
    tokenizer.model_max_length = 77
    crop = {"height": 64, "width": 64}
    return CLIPProcessor(CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=crop), tokenizer)


def make_model(processor: CLIPProcessor, *, text: dict[str, int], vision: dict[str, int]) -> CLIPModel:
    """A CLIP with random weights."""
    tokens = {name: getattr(processor.tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {"vocab_size": len(processor.tokenizer), "max_position_embeddings": 77} | tokens | text
    return CLIPModel(CLIPConfig(text_config=text, vision_config={"image_size": 64, "patch_size": 16} | vision)).eval()


def small_model(processor: CLIPProcessor) -> CLIPModel:
    """A CLIP whose image tower is a quarter as wide and deep as ViT-B/32's."""
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 3, "num_attention_heads": 3}
    return make_model(processor, text=text, vision=vision)


def head_ways(processor: CLIPProcessor) -> tuple[Way, Way]:
    """One class at a time, every prompt padded to 77 tokens; against batches of sorted, distinct, trimmed prompts."""
    vision = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = make_model(processor, text={}, vision=vision)
    names = [f"number {i}" for i in range(25)]
    templates = [f"{word} {{}}." for word in ("a photo of", "the", "one", "two", "three", "a", "photo", "and")]

    @torch.no_grad()
    def plain() -> torch.Tensor:
        rows = []
        for name in names:
            prompts = [template.format(name) for template in templates]
            tokens = processor.tokenizer(prompts, padding="max_length", max_length=77, return_tensors="pt")
            embeds = functional.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
            rows.append(functional.normalize(embeds.mean(0), dim=-1))
        return torch.stack(rows)

    return plain, lambda: build_zero_shot_head(model, processor.tokenizer, names, templates).weight


def interpolation_ways() -> tuple[Way, Way]:
    """A dict comprehension with the written-out sum; against `interpolate`."""
    config = CLIPConfig()
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in image_tower_weights(CLIPModel(config)).items()}
    theta_0, theta_1 = ({name: torch.randn(shape) for name, shape in shapes.items()} for _ in range(2))
    last = "visual_projection.weight"
    return (
        lambda: {name: (1 - 0.3) * theta_0[name] + 0.3 * theta_1[name] for name in theta_0}[last],
        lambda: interpolate(theta_0, theta_1, 0.3)[last],
    )


def sweep_ways(processor: CLIPProcessor) -> tuple[Way, Way]:
    """Every image decoded and processed at every alpha; against pixels that are decoded once."""
    model = small_model(processor)
    theta_0 = {name: tensor.clone() for name, tensor in image_tower_weights(model).items()}
    theta_1 = {name: tensor + 0.01 * torch.randn_like(tensor) for name, tensor in theta_0.items()}
    folder = Path(tempfile.mkdtemp())
    task = write_task(folder, train=10, test=200, size=(500, 375), splits={"validation": None}, image_format="JPEG")
    prepared = prepare_task(task, model, processor, splits=("test",), cache_dir=folder)
    tower = image_tower(model)
    evaluator = Evaluator(Accelerator(cpu=True), batch_size=50)
    from datasets import Dataset
    from datasets import Image as ImageFeature

    stored = Dataset.from_parquet(task.data_files["test"]).cast_column("image", ImageFeature(decode=False))["image"]
    files = [row["bytes"] for row in stored]

    @torch.no_grad()
    def plain() -> torch.Tensor:
        predicted = []
        for alpha in ALPHAS:
            model.load_state_dict({n: (1 - alpha) * theta_0[n] + alpha * theta_1[n] for n in theta_0}, strict=False)
            for start in range(0, len(files), 50):
                images = [Image.open(io.BytesIO(file)) for file in files[start : start + 50]]
                pixels = processor.image_processor(images, return_tensors="pt")["pixel_values"]
                predicted.append(prepared.head(tower(pixel_values=pixels).image_embeds).argmax(-1))
        return torch.cat(predicted)

    def ours() -> torch.Tensor:
        predicted = []
        for alpha in ALPHAS:
            with interpolated(model, theta_0, theta_1, alpha):
                predicted.append(torch.from_numpy(evaluator.predict(tower, prepared, "test").predicted))
        return torch.cat(predicted)

    return plain, ours


def training_ways(processor: CLIPProcessor) -> tuple[Way, Way]:
    """A bare loop over the same batches; against `PaintTrainer`. Both return the weights they end with."""
    pixels = torch.randint(0, 255, (256, 3, 64, 64), dtype=torch.uint8)
    rows = [{"pixel_values": image, "labels": i % 4} for i, image in enumerate(pixels)]
    start = small_model(processor)
    head = build_zero_shot_head(start, processor.tokenizer, ["one", "two", "three", "photo"], ["{}"])
    weights = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    keys = {"max_steps": 8, "warmup_steps": 1, "per_device_train_batch_size": 32, "save_strategy": "no"}
    keys |= {"train_sampling_strategy": "sequential", "use_cpu": True, "disable_tqdm": True, "logging_strategy": "no"}
    args = PaintTrainingArguments(output_dir=tempfile.mkdtemp(), **keys)
    trainer = PaintTrainer(start, args, train_dataset=rows, head=head, processing_class=processor)
    tower = image_tower(start)

    def plain() -> torch.Tensor:
        start.load_state_dict(weights)
        parameters = list(tower.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.1, fused=True)
        schedule = [1.0] + [0.5 * (1 + np.cos(np.pi * step / 7)) for step in range(7)]
        for step, factor in enumerate(schedule):
            batch = pixels[32 * step : 32 * (step + 1)]
            labels = torch.arange(32 * step, 32 * (step + 1)) % 4
            embeds = tower(pixel_values=trainer.transform.normalize(batch)).image_embeds
            functional.cross_entropy(head(embeds), labels).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.param_groups[0]["lr"] = 1e-5 * factor
            optimizer.step()
            optimizer.zero_grad()
        return start.visual_projection.weight.detach().clone()

    def ours() -> torch.Tensor:
        start.load_state_dict(weights)
        trainer.optimizer = trainer.lr_scheduler = None
        sys.stdout, kept = io.StringIO(), sys.stdout  # the trainer prints a summary
        try:
            trainer.train()
        finally:
            sys.stdout = kept
        return start.visual_projection.weight.detach().clone()

    return plain, ours


if __name__ == "__main__":
    main()
