"""Draw the scenes of the recipes in this folder, as parquet files and a task YAML for each task, in about a minute.

python recipes/scenes/make_scenes.py --output_dir runs/scenes
"""

import argparse
from pathlib import Path

import yaml

from hf_paint import write_counting_task, write_questions_task, write_shapes_task


def main() -> None:
    """Draw the scenes and write the tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/scenes"), help="default: %(default)s")
    folder = parser.parse_args().output_dir
    for write in (write_counting_task, write_shapes_task, write_questions_task):
        task = write(folder).to_dict()
        task["data_files"] = {split: Path(path).name for split, path in task["data_files"].items()}
        (folder / f"{task['name']}.yaml").write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
