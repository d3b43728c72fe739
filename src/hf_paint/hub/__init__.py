"""Model cards, and pushing to and pulling from the Hub."""

from hf_paint.hub.model_card import render_model_card
from hf_paint.hub.pull import load_curve
from hf_paint.hub.push import PushOptions, push_variants


__all__ = ["PushOptions", "load_curve", "push_variants", "render_model_card"]
