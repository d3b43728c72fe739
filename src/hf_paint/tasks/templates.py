"""Prompts for tasks whose definition has none.

The prompt is the one that CLIP's authors call a good default (Radford et al., 2021, Section 3.1.4). It stands alone
because a single prompt can be given to other software, such as the pipeline of transformers, which then is the same
classifier. The seven prompts of OpenAI's notebook ("itap of a {}.", "a origami {}.", ...) were selected on ImageNet's
validation images, so they are no better founded for other pictures; on CIFAR-10, MNIST and GTSRB, a small CLIP model
was between 0.5 points worse and 2 points better with them. Prompts that say what the pictures show ("a photo of a {}
texture.") help more than either: set `templates`.
"""

GENERAL_TEMPLATES = ("a photo of a {}.",)
