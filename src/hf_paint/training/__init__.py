"""PaintTrainer, HeadTrainer and their arguments."""
