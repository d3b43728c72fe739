"""Where training images are augmented, and whether their pictures are decoded once or each time they are read."""

from dataclasses import replace
from pathlib import Path

from hf_paint.data.pictures import Pictures
from hf_paint.data.pixel_cache import cache_limit
from hf_paint.data.resampling import FILTERS
from hf_paint.data.splits import Split
from hf_paint.data.training_images import TrainImages
from hf_paint.data.transforms import PixelTransform
from hf_paint.data.unreadable import refuse_unreadable
from hf_paint.errors import InputError
from hf_paint.training.batch_size import images_of_run
from hf_paint.training.training_args import PaintTrainingArguments


MARGIN = 8 / 7
"""Shorter side of the pictures that a device resizes, relative to what the model reads: 256 pixels for 224."""
SMALLEST_SIDE = 256
MIN_SAVED = 2000
"""How often a cache must save decoding a picture again to be worth its time and its place on the disk."""


def make_train_images(
    split: Split, transform: PixelTransform, args: PaintTrainingArguments, *, cache_dir: Path
) -> TrainImages:
    """Return the augmented images of a train split that is not streamed.

    Raises:
        InputError: If images cannot be read, or their crops cannot be resized on the training device.
    """
    refuse_unreadable(split)
    reduced = Pictures(split, max(SMALLEST_SIDE, round(MARGIN * transform.crop_size)), transform.resample)
    on_device = _resizes_on_device(reduced, args)
    pictures = reduced if on_device else Pictures(split)
    if keeps_pictures(pictures, args, cache_dir):
        pictures = replace(pictures, cache_dir=cache_dir)
    return TrainImages(split, transform, args.augmentation, seed=args.seed, pictures=pictures, resize=not on_device)


def _resizes_on_device(pictures: Pictures, args: PaintTrainingArguments) -> bool:
    """Return whether crops are resized on the training device. This must not depend on how full a disk is."""
    known = pictures.resample in FILTERS
    if args.augmentation_device == "cuda" and not known:
        raise InputError(
            f"`augmentation_device: cuda` cannot resize with the filter {pictures.resample.name.lower()} of the image "
            f"processor, only with {' and '.join(each.name.lower() for each in FILTERS)}. Remove it."
        )
    if args.augmentation_device != "auto":
        return args.augmentation_device == "cuda"
    return args.device.type != "cpu" and known and _is_cacheable(pictures) and pictures.num_bytes <= cache_limit()


def keeps_pictures(pictures: Pictures, args: PaintTrainingArguments, cache_dir: Path) -> bool:
    """Return whether a training decodes pictures once, into the cache.

    They are kept if that saves decoding many of them again, and if they fit into the cache and on the disk. Pictures
    that are not reduced must also fit into half of the memory: reading them from a disk would be slower than decoding.
    """
    num_pictures = len(pictures.split.rows)
    return (
        images_of_run(args, num_pictures) - num_pictures >= MIN_SAVED
        and _is_cacheable(pictures)
        and pictures.fits_on_disk(cache_dir)
        and (pictures.max_side is not None or pictures.fits_in_memory())
    )


def _is_cacheable(pictures: Pictures) -> bool:
    return pictures.split.task.attack is None  # the words of an attack depend on the epoch
