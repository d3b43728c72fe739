"""Train the toy CLIP of `hf-paint quickstart` from nothing, on images drawn by `hf_paint.rendering`.

python recipes/toy_clip/make_toy_clip.py --output_dir toy_clip

The same seed gives the same images, captions and batches. The weights then agree up to the rounding of the CPU and the
torch version at hand.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from tqdm import tqdm
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    get_cosine_schedule_with_warmup,
    set_seed,
)

from hf_paint.rendering import IMAGE_SIZE, RENDERED_TASKS, Pixels, Subject, render_pairs, rendered_task

CONTEXT_LENGTH = 32
PIXEL_MEAN = PIXEL_STD = 0.5
CHUNK_SIZE = 2000
UNSEEN_TEMPLATES = {
    "shapes": ("my favourite {}", "a photograph showing a {}", "look at this {}!"),
    "words": ("somebody wrote {} here", 'it says "{}"', 'a photograph of a label with "{}"'),
}
DIGIT_TEMPLATES = ('a photo of the number: "{}".',)


def main() -> None:
    """Render, train, evaluate, save."""
    args = parse_args()
    set_seed(args.seed)
    images, captions, subjects = render_pool(args.num_pairs, args.seed, args.num_workers)
    tokenizer = train_tokenizer(captions)
    model = CLIPModel(build_config(tokenizer))
    train(model, tokenizer, images, captions, subjects, args)
    evaluate(model.eval(), tokenizer)
    save(model, tokenizer, args.output_dir)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="where the CLIPModel folder is written")
    parser.add_argument(
        "--num_pairs", type=int, default=160_000, help="images drawn and captioned (default: %(default)s)"
    )
    parser.add_argument("--max_steps", type=int, default=4000, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=256, help="pairs per step (default: %(default)s)")
    parser.add_argument("--learning_rate", type=float, default=1.5e-3, help="peak, then cosine (default: %(default)s)")
    parser.add_argument("--num_workers", type=int, default=2, help="processes that draw (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of images, captions, weights, batches (default: %(default)s)"
    )
    return parser.parse_args()


def render_pool(num_pairs: int, seed: int, num_workers: int) -> tuple[Pixels, list[str], list[Subject]]:
    """Draw pairs in parallel; the result does not depend on the number of workers."""
    seeds = np.random.SeedSequence(seed).generate_state(math.ceil(num_pairs / CHUNK_SIZE)).tolist()
    with ProcessPoolExecutor(num_workers) as pool:
        chunks = list(tqdm(pool.map(partial(render_pairs, CHUNK_SIZE), seeds), total=len(seeds), desc="drawing"))
    images, captions, subjects = zip(*chunks, strict=True)
    return np.concatenate(images), sum(captions, []), sum(subjects, [])


def train_tokenizer(captions: list[str], vocab_size: int = 640) -> CLIPTokenizer:
    """Train a CLIP tokenizer that can spell every string.

    CLIP's BPE marks the last byte of a word with `</w>`. A word whose last byte has no such symbol would become the
    end-of-text token in mid-sentence, where CLIP pools, so all 256 of them are added.
    """
    template = CLIPTokenizer().backend_tokenizer
    bpe = Tokenizer(BPE(end_of_word_suffix="</w>"))
    bpe.normalizer, bpe.pre_tokenizer = template.normalizer, template.pre_tokenizer
    special_tokens = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = sorted(ByteLevel.alphabet())
    bpe.train_from_iterator(
        captions,
        BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=special_tokens,
            initial_alphabet=alphabet,
            end_of_word_suffix="</w>",
            show_progress=False,
        ),
    )
    vocab = bpe.get_vocab()
    for symbol in (f"{byte}</w>" for byte in alphabet):
        vocab.setdefault(symbol, len(vocab))
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=CONTEXT_LENGTH)


def build_config(tokenizer: CLIPTokenizer) -> CLIPConfig:
    """Return a model of 0.9 million parameters, most of them in the image tower, which is what gets patched."""
    text_config = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": CONTEXT_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision_config = {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": IMAGE_SIZE,
        "patch_size": 8,
    }
    return CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=64)


def train(
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    images: Pixels,
    captions: list[str],
    subjects: list[Subject],
    args: argparse.Namespace,
) -> None:
    """Train both towers contrastively with AdamW and a cosine schedule after a short warmup."""
    tokens = tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
    subject_ids = torch.from_numpy(np.unique([f"{s.kind} {s.name}" for s in subjects], return_inverse=True)[1])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.learning_rate, betas=(0.9, 0.98), weight_decay=0.1, fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, args.max_steps // 20, args.max_steps)
    progress = tqdm(batches(len(captions), args.batch_size, args.max_steps), total=args.max_steps, desc="training")
    for step, rows in zip(range(args.max_steps), progress):
        length = int(tokens.attention_mask[rows].sum(dim=1).max())
        output = model(
            input_ids=tokens.input_ids[rows, :length],
            attention_mask=tokens.attention_mask[rows, :length],
            pixel_values=normalise(images[rows]),
        )
        loss = contrastive_loss(output.logits_per_image, subject_ids[rows])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        if step % 50 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}")


def batches(num_rows: int, batch_size: int, num_batches: int) -> Iterator[Tensor]:
    """Yield random rows, epoch after epoch, leaving out the incomplete batch at the end of each epoch."""
    for _ in range(math.ceil(num_batches / (num_rows // batch_size))):
        rows = torch.randperm(num_rows)
        yield from rows[: num_rows // batch_size * batch_size].split(batch_size)


def contrastive_loss(logits_per_image: Tensor, subject_ids: Tensor) -> Tensor:
    """Return CLIP's symmetric loss, in which every caption of the same subject is a right answer."""
    same = (subject_ids[:, None] == subject_ids[None, :]).float()
    targets = same / same.sum(dim=1)
    return (F.cross_entropy(logits_per_image, targets) + F.cross_entropy(logits_per_image.T, targets)) / 2


def normalise(images: Pixels) -> Tensor:
    """Turn images (batch, height, width, 3) into pixel values as the saved image processor does."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - PIXEL_MEAN) / PIXEL_STD


@torch.no_grad()
def zero_shot_accuracy(
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    images: Pixels,
    labels: np.ndarray,
    prompts: list[list[str]],
) -> float:
    """Return the share of images that are closest to the mean embedding of the prompts of their class."""
    embeds = []
    for class_prompts in prompts:
        tokens = tokenizer(class_prompts, padding=True, truncation=True, return_tensors="pt")
        embeds.append(F.normalize(model.get_text_features(**tokens).pooler_output, dim=-1).mean(dim=0))
    head = F.normalize(torch.stack(embeds), dim=-1)
    predictions = (model.get_image_features(normalise(images)).pooler_output @ head.T).argmax(dim=-1)
    return float((predictions.numpy() == labels).mean())


def evaluate(model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
    """Print zero-shot accuracies on images that training has not seen."""

    def report(
        name: str, images: Pixels, labels: np.ndarray, class_names: list[str], templates: tuple[str, ...]
    ) -> None:
        prompts = [[template.format(class_name) for template in templates] for class_name in class_names]
        print(f"{name:32} {zero_shot_accuracy(model, tokenizer, images, labels, prompts):.3f}")

    for name in RENDERED_TASKS:
        images, labels, class_names, templates = rendered_task(name, num_images=2000, seed=2**32 + 1)
        report(name, images, labels, class_names, tuple(templates))
        if name in UNSEEN_TEMPLATES:
            report(f"{name}, unseen templates", images, labels, class_names, UNSEEN_TEMPLATES[name])
    digits = load_digits()
    report("handwritten digits", upscale(digits.images), digits.target, list("0123456789"), DIGIT_TEMPLATES)


def upscale(digits: np.ndarray) -> Pixels:
    """Turn scikit-learn's digits (num_images, 8, 8), which range from 0 to 16, into images of CLIP's size."""
    grey = [Image.fromarray((digit * 255 / 16).astype(np.uint8)).resize((IMAGE_SIZE, IMAGE_SIZE)) for digit in digits]
    return np.stack([np.asarray(image.convert("RGB")) for image in grey])


def save(model: CLIPModel, tokenizer: CLIPTokenizer, output_dir: Path) -> None:
    """Write the model with its processor."""
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    image_processor = CLIPImageProcessorPil(
        size=size, crop_size=size, image_mean=[PIXEL_MEAN] * 3, image_std=[PIXEL_STD] * 3
    )
    model.save_pretrained(output_dir)
    CLIPProcessor(image_processor, tokenizer).save_pretrained(output_dir)


if __name__ == "__main__":
    main()
