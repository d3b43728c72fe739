"""What fine-tuning changed as a small file: LoRA adapters and patches."""
