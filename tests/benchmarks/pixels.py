"""From JPEGs to the model's pixels: ours against the image processor of transformers, one by one and in workers.

    python tests/benchmarks/pixels.py [--rounds 5] [--threads N] [--quick] [--json FILE]

The JPEGs are ImageNet originals if the reference data is beside the checkout; otherwise they are drawn. No cache is
reused: each of our runs decodes into a new one.
"""

import itertools
from dataclasses import replace
from functools import partial

import torch
from common import FOLDER, Target, arguments, compare, interleave, report, seconds
from inputs import ProcessedImages, make_image_task, make_processor
from torch import Tensor
from torch.utils.data import DataLoader

from hf_paint.data.images import CachedImages
from hf_paint.data.splits import load_splits
from hf_paint.data.transforms import PixelTransform


WORKERS = 2


def main() -> None:
    """Measure both plain ways."""
    parsed = arguments(__doc__)
    processor = make_processor(["a photo"], vocab_size=300)
    task, kind = make_image_task(FOLDER, 32 if parsed.quick else 250)
    split = load_splits(task, ("test",))["test"]
    transform, images = PixelTransform(processor), ProcessedImages(split, processor.image_processor)
    caches = (FOLDER / f"cache-{number}" for number in itertools.count())

    def one_by_one() -> Tensor:
        return torch.stack([images[index][0] for index in range(len(images))])

    def dataloader() -> Tensor:
        return torch.cat([pixels for pixels, _ in DataLoader(images, batch_size=128, num_workers=WORKERS)])

    def ours() -> Tensor:
        cached = CachedImages(split, transform, cache_dir=next(caches))
        batches = DataLoader(cached, batch_size=128, collate_fn=lambda batch: batch["pixel_values"])
        return torch.cat([transform.normalize(pixels) for pixels in batches])

    ways = {"one by one": one_by_one, f"in a DataLoader with {WORKERS} workers": dataloader, "ours": ours}
    runs = interleave({name: partial(seconds, way) for name, way in ways.items()}, parsed.rounds)
    raw = ProcessedImages(split, processor.image_processor, do_rescale=False, do_normalize=False)
    cached = CachedImages(split, transform, cache_dir=next(caches))
    in_bytes = max(int((cached[i]["pixel_values"].int() - raw[i][0].int()).abs().max()) for i in range(len(raw)))
    normalised = float((one_by_one() - ours()).abs().max())
    rows = [
        compare(
            f"pixels, {kind}, CLIPImageProcessorPil {name}",
            runs[name],
            runs["ours"],
            unit="images",
            work=(len(split.rows), len(split.rows)),
            difference=in_bytes,
            target=Target(speedup=2, difference=0),
        )
        for name in list(ways)[:2]
    ]
    report([replace(row, difference=f"{in_bytes} in uint8, {normalised:.1e} normalised") for row in rows], parsed)


if __name__ == "__main__":
    main()
