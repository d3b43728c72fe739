"""Draw the scenes for the recipes in this folder: parquet files and one task YAML per task. Takes about a minute.

python recipes/scenes/make_scenes.py --output_dir runs/scenes
"""

import argparse
from pathlib import Path

from hf_paint import write_counting_task, write_questions_task, write_shapes_task


def main() -> None:
    """Draw the scenes and write the tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/scenes"), help="default: %(default)s")
    folder = parser.parse_args().output_dir
    for write in (write_counting_task, write_shapes_task, write_questions_task):
        task = write(folder)
        task.to_yaml(folder / f"{task.name}.yaml")


if __name__ == "__main__":
    main()
