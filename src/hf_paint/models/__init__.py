"""CLIP and similar models: loading, image towers, zero-shot and trained heads, conversion from open_clip."""

from hf_paint.models.classifier import ClassificationHead, load_classifier
from hf_paint.models.heads import CandidateHead, ZeroShotHead
from hf_paint.models.loading import load_clip, save_clip
from hf_paint.models.open_clip import convert_open_clip
from hf_paint.models.stored import LazyWeights
from hf_paint.models.towers import image_tower, image_tower_weights
from hf_paint.models.zero_shot import build_zero_shot_head


__all__ = [
    "CandidateHead",
    "ClassificationHead",
    "LazyWeights",
    "ZeroShotHead",
    "build_zero_shot_head",
    "convert_open_clip",
    "image_tower",
    "image_tower_weights",
    "load_classifier",
    "load_clip",
    "save_clip",
]
