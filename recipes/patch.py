"""Patch a CLIP model from a recipe: `hf-paint patch` as a script for `accelerate launch`.

    accelerate launch recipes/patch.py --config recipes/clip-vit-base-patch32/mnist.yaml
    accelerate launch --config_file recipes/accelerate_configs/multi_gpu.yaml recipes/patch.py --config ...

Flags override the YAML file: `--learning_rate 3e-5 --output_dir runs/mnist-3e-5`.
"""

import sys

from hf_paint.cli.main import main


if __name__ == "__main__":
    sys.exit(main(["patch", *sys.argv[1:]]))
