"""Data loading, from data set rows to pixels: sources, splits, labels, transforms and the pixel cache."""

from hf_paint.data.images import CachedImages
from hf_paint.data.splits import Split, load_splits
from hf_paint.data.transforms import PixelTransform


__all__ = ["CachedImages", "PixelTransform", "Split", "load_splits"]
