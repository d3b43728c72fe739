"""Train the toy CLIP for `hf-paint quickstart` from scratch, on images drawn by `hf_paint.tasks.rendering`.

OMP_NUM_THREADS=1 python recipes/toy_clip/make_toy_clip.py --output_dir toy_clip      # about 20 minutes on one core

The same seed gives the same images, captions and batches. The weights then agree up to rounding
differences between CPUs and torch versions.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
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

from hf_paint.tasks.rendering import IMAGE_SIZE, RENDERED_TASKS, Pixels, Subject, render_pairs, rendered_task


CONTEXT_LENGTH = 32
PIXEL_MEAN = PIXEL_STD = 0.5
CHUNK_SIZE = 2000
UNSEEN_TEMPLATES = {
    "shapes": ("my favourite {}", "a photograph showing a {}", "look at this {}!"),
    "words": ("somebody wrote {} here", 'it says "{}"', 'a photograph of a label with "{}"'),
}
EVALUATION_SEED = 2**32  # chunks of training images have seeds below it


class Pairs(NamedTuple):
    """Images, each with a caption and a subject."""

    images: Pixels
    captions: list[str]
    subjects: list[Subject]


def main() -> None:
    """Draw, train, save, evaluate."""
    args = parse_args()
    set_seed(args.seed)
    pairs = render_in_parallel(args.num_pairs, args.seed, args.num_workers)
    tokenizer = train_tokenizer(pairs.captions)
    model = CLIPModel(build_config(tokenizer))
    train(model, tokenizer, pairs, args)
    save(model, tokenizer, args.output_dir)
    for name, value in evaluate(model.eval(), tokenizer).items():
        tqdm.write(f"{name:26} {value:.3f}")


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, metavar="N")
    add("--output_dir", type=Path, required=True, metavar="DIR", help="where the CLIPModel folder is written")
    add("--num_pairs", type=int, default=160_000, help="images to draw and caption (default: %(default)s)")
    add("--max_steps", type=int, default=3400, help="optimizer steps (default: %(default)s)")
    add("--batch_size", type=int, default=256, help="pairs per step (default: %(default)s)")
    add("--learning_rate", type=float, default=1.5e-3, help="at its peak (default: %(default)s)")
    add("--num_workers", type=int, default=2, help="processes that draw (default: %(default)s)")
    add("--seed", type=int, default=0, help="of images, captions, weights and batches (default: %(default)s)")
    return parser.parse_args()


def render_in_parallel(num_pairs: int, seed: int, num_workers: int) -> Pairs:
    """Draw pairs with several processes; the result does not depend on their number."""
    seeds = np.random.SeedSequence(seed).generate_state(math.ceil(num_pairs / CHUNK_SIZE)).tolist()
    with ProcessPoolExecutor(num_workers) as pool:
        chunks = list(tqdm(pool.map(partial(render_pairs, CHUNK_SIZE), seeds), total=len(seeds), desc="drawing"))
    images, captions, subjects = zip(*chunks, strict=True)
    return Pairs(np.concatenate(images), list(chain(*captions)), list(chain(*subjects)))


def train_tokenizer(captions: list[str], vocab_size: int = 856) -> CLIPTokenizer:
    """Train a CLIP tokenizer that can encode every string.

    CLIP's BPE marks the last byte of a word with `</w>`. A word whose last byte has no such symbol would become the
    end-of-text token in mid-sentence, where CLIP pools, so every byte gets one. All symbols are passed as special
    tokens because only these have ids in a fixed order, on which ties between merges depend.
    """
    template = CLIPTokenizer().backend_tokenizer
    bpe = Tokenizer(BPE(end_of_word_suffix="</w>"))
    bpe.normalizer, bpe.pre_tokenizer = template.normalizer, template.pre_tokenizer
    alphabet = sorted(ByteLevel.alphabet())
    symbols = ["<|startoftext|>", "<|endoftext|>", *alphabet, *(f"{byte}</w>" for byte in alphabet)]
    trainer = BpeTrainer(vocab_size=vocab_size, special_tokens=symbols, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    return CLIPTokenizer(vocab=bpe.get_vocab(), merges=merges, model_max_length=CONTEXT_LENGTH)


def build_config(tokenizer: CLIPTokenizer) -> CLIPConfig:
    """Return a model of 0.9 million parameters, most of them in the image tower, the part that is patched."""
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


def train(model: CLIPModel, tokenizer: CLIPTokenizer, pairs: Pairs, args: argparse.Namespace) -> None:
    """Train both towers contrastively with AdamW and a cosine schedule after a short warmup."""
    tokens = tokenizer(pairs.captions, padding=True, truncation=True, return_tensors="pt")
    subject_ids = torch.from_numpy(np.unique([str(subject) for subject in pairs.subjects], return_inverse=True)[1])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.learning_rate, betas=(0.9, 0.98), weight_decay=0.1, fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, args.max_steps // 20, args.max_steps)
    progress = tqdm(islice(batches(len(tokens.input_ids), args.batch_size), args.max_steps), total=args.max_steps)
    for step, rows in enumerate(progress):
        length = int(tokens.attention_mask[rows].sum(dim=1).max())
        output = model(
            input_ids=tokens.input_ids[rows, :length],
            attention_mask=tokens.attention_mask[rows, :length],
            pixel_values=normalise(pairs.images[rows]),
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


def batches(num_rows: int, batch_size: int) -> Iterator[Tensor]:
    """Yield random rows without end, dropping the incomplete batch at the end of each epoch."""
    while True:
        yield from torch.randperm(num_rows)[: num_rows // batch_size * batch_size].split(batch_size)


def contrastive_loss(logits_per_image: Tensor, subject_ids: Tensor) -> Tensor:
    """Return CLIP's symmetric loss, with every caption of the same subject as a correct answer."""
    same = (subject_ids[:, None] == subject_ids[None, :]).float()
    targets = same / same.sum(dim=1)
    return (F.cross_entropy(logits_per_image, targets) + F.cross_entropy(logits_per_image.T, targets)) / 2


def normalise(images: Pixels) -> Tensor:
    """Turn images (batch, height, width, 3) into pixel values as the saved image processor does."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - PIXEL_MEAN) / PIXEL_STD


def evaluate(model: CLIPModel, tokenizer: CLIPTokenizer) -> dict[str, float]:
    """Return zero-shot accuracies on unseen images."""
    accuracies = {}
    for name in RENDERED_TASKS:
        images, labels, class_names, templates = rendered_task(name, num_images=2000, seed=EVALUATION_SEED)
        embeds = embed_images(model, images)
        accuracies[name] = accuracy(embeds, labels, embed_classes(model, tokenizer, class_names, templates))
        if name in UNSEEN_TEMPLATES:
            head = embed_classes(model, tokenizer, class_names, UNSEEN_TEMPLATES[name])
            accuracies[f"{name}, unseen templates"] = accuracy(embeds, labels, head)
    digits = load_digits()
    head = embed_classes(model, tokenizer, list("0123456789"), RENDERED_TASKS["numbers"][2])
    accuracies["handwritten digits"] = accuracy(embed_images(model, upscale(digits.images)), digits.target, head)
    return accuracies


@torch.no_grad()
def embed_images(model: CLIPModel, images: Pixels) -> Tensor:
    """Return image embeddings (num_images, projection_dim)."""
    return model.get_image_features(normalise(images)).pooler_output


@torch.no_grad()
def embed_classes(
    model: CLIPModel, tokenizer: CLIPTokenizer, class_names: list[str], templates: Sequence[str]
) -> Tensor:
    """Return unit rows (num_classes, projection_dim), each the mean direction of the prompts of one class."""
    prompts = [template.format(class_name) for class_name in class_names for template in templates]
    tokens = tokenizer(prompts, padding=True, truncation=True, return_tensors="pt")
    embeds = F.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
    return F.normalize(embeds.unflatten(0, (len(class_names), len(templates))).mean(dim=1), dim=-1)


def accuracy(image_embeds: Tensor, labels: NDArray[np.int64], head: Tensor) -> float:
    """Return the share of images closest to the row of their class."""
    return float(((image_embeds @ head.T).argmax(dim=-1).numpy() == labels).mean())


def upscale(digits: NDArray[np.float64]) -> Pixels:
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
