"""What is asked of a model: a data set, its classes and prompts; attacks, corruptions, counting, VQA, scenes."""
