"""Patching strategies: how theta_1 comes about, and which alphas are looked at (PAINT, Sections 2 and 4)."""

from hf_paint.patching.result import PatchOptions, PatchResult
from hf_paint.patching.single import patch_single


__all__ = ["PatchOptions", "PatchResult", "patch_single"]
