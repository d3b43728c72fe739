"""bfloat16 for the small CLIP where the processor multiplies it much faster than float32, and float32 elsewhere.

Without such instructions, a run in bfloat16 takes several times as long. The figures are those of the precision that
the machine's name says.
"""

import os
import platform

import torch

from hf_paint.report.live_tower import multiplies_faster


BF16: bool = multiplies_faster(torch.bfloat16)
PRECISION = "bf16" if BF16 else "fp32"
FLAGS = ["--bf16", str(BF16).lower(), "--precision", PRECISION]
MACHINE = f"{platform.machine()}, {os.cpu_count()} cores, the small CLIP in {PRECISION}"
