from pathlib import Path

import pytest
import yaml

from hf_paint import get_task, write_counting_task, write_questions_task, write_shapes_task
from hf_paint.recipe_runner import parse_recipe


RECIPES = Path(__file__).parents[1] / "recipes"
FILES = sorted(RECIPES.glob("clip-*/*.yaml"))


def test_there_are_recipes_for_three_sizes():
    sizes = {path.parent.name for path in FILES}
    assert sizes == {"clip-vit-base-patch16", "clip-vit-base-patch32", "clip-vit-large-patch14"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recipe_parses_and_its_tasks_exist(path):
    recipe, args = parse_recipe(str(path), ["--use_cpu", "true"])
    assert recipe.model.endswith(path.parent.name)
    assert recipe.patching_tasks == [path.stem]
    for name in recipe.patching_tasks + recipe.supported_tasks:
        assert get_task(name).class_names
    assert (args.learning_rate, args.max_steps, args.warmup_steps) == (1e-5, 2000, 200)
    assert args.output_dir.endswith(f"{path.parent.name}-{path.stem}")


@pytest.mark.parametrize("path", sorted((RECIPES / "accelerate_configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_config_is_one(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.num_processes == yaml.safe_load(path.read_text())["num_processes"]


@pytest.mark.parametrize("path", sorted((RECIPES / "scenes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipe_on_drawn_scenes_finds_its_tasks(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "scenes"
    for write in (write_counting_task, write_shapes_task, write_questions_task):
        task = write(folder, sizes={"train": 2, "validation": 2, "test": 2})
        (folder / f"{task.name}.yaml").write_text(yaml.safe_dump(task.to_dict()))
    recipe, args = parse_recipe(str(path), [])
    assert (RECIPES.parent / recipe.model / "config.json").exists()
    for name in recipe.patching_tasks + recipe.supported_tasks + recipe.transfer_tasks:
        assert get_task(name).data_files
    assert args.use_cpu
