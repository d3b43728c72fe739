"""Small files that store the change made by fine-tuning: LoRA adapters and patches."""

from hf_paint.adapters.apply import apply_patch
from hf_paint.adapters.lora import interpolate_adapter
from hf_paint.adapters.lora_extraction import extract_lora
from hf_paint.adapters.lora_scaling import combine_adapters, scale_adapter
from hf_paint.adapters.patch import save_patch


__all__ = ["apply_patch", "combine_adapters", "extract_lora", "interpolate_adapter", "save_patch", "scale_adapter"]
