"""The small CLIP runs on a GPU if there is one, in bfloat16 where that is much faster than float32, else in float32.

On a processor without instructions for bfloat16, a run in it takes several times as long. The figures are those of the
device and the precision that the machine's name says.
"""

import os
import platform

import torch

from hf_paint.report.live_tower import multiplies_faster


USE_CPU: bool = not torch.cuda.is_available()
BF16: bool = not USE_CPU or multiplies_faster(torch.bfloat16)
PRECISION = "bf16" if BF16 else "fp32"
FLAGS = ["--use_cpu", str(USE_CPU).lower(), "--bf16", str(BF16).lower(), "--precision", PRECISION]
FLAGS += [] if USE_CPU else ["--per_device_eval_batch_size", "1000"]
CARD = "" if USE_CPU else f"{torch.cuda.get_device_name()}, "
MACHINE = f"{CARD}{platform.machine()}, {os.cpu_count()} cores, the small CLIP in {PRECISION}"
