"""Prompts for tasks that have none of their own."""

GENERAL_TEMPLATES = ("a photo of a {}.",)
