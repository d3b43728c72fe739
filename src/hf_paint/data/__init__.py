"""From a row of a data set to pixels: sources, splits, labels, transforms, the pixel cache."""

from hf_paint.data.images import CachedImages
from hf_paint.data.splits import Split, load_splits
from hf_paint.data.transforms import PixelTransform


__all__ = ["CachedImages", "PixelTransform", "Split", "load_splits"]
