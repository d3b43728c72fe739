"""Patching strategies, which compute theta_1 and choose the alphas to evaluate (PAINT, Sections 2 and 5)."""

from hf_paint.patching.joint import patch_joint
from hf_paint.patching.options import PatchOptions, PatchResult
from hf_paint.patching.parallel import patch_parallel
from hf_paint.patching.patch_call import patch
from hf_paint.patching.reselect import select_alpha
from hf_paint.patching.sequential import patch_sequential
from hf_paint.patching.single import patch_single


__all__ = [
    "PatchOptions",
    "PatchResult",
    "patch",
    "patch_joint",
    "patch_parallel",
    "patch_sequential",
    "patch_single",
    "select_alpha",
]
