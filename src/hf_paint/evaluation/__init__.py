"""A model on tasks, and every alpha on every task."""
