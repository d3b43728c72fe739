from functools import cache
from itertools import product
from pathlib import Path

import pytest
import yaml

from hf_paint import get_task, write_counting_task, write_questions_task, write_shapes_task
from hf_paint.cli.run_recipe import parse_recipe
from hf_paint.tasks import TypographicTask, get_tasks


RECIPES = Path(__file__).parents[1] / "recipes"
FILES = sorted(RECIPES.glob("clip-*/*.yaml"))
SIZES = ["clip-vit-base-patch32", "clip-vit-large-patch14"]
SEVERAL = ["joint", "parallel", "parallel_public", "sequential"]
MERGED = [f"merging8_{method}" for method in ("iso_c", "iso_cts", "task_arithmetic", "ties", "tsv")]


@cache
def parsed(path):
    return parse_recipe(str(path), ["--use_cpu", "true"])


def test_there_are_recipes_for_three_sizes():
    sizes = {path.parent.name for path in FILES}
    assert sizes == {"clip-vit-base-patch16", "clip-vit-base-patch32", "clip-vit-large-patch14"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recipe_parses_and_its_tasks_exist(path):
    recipe, args = parsed(path)
    assert recipe.model.endswith(path.parent.name)
    for task in get_tasks(recipe.patching_tasks + recipe.supported_tasks):
        assert task.class_names
    assert args.per_device_train_batch_size == 128
    assert (args.learning_rate, args.get_warmup_steps(2000)) == (1e-5, 200)
    assert args.max_steps == (8000 if recipe.strategy == "joint" else 2000)
    assert args.output_dir.endswith(f"{path.parent.name}-{path.stem.replace('_', '-')}")


def test_there_is_a_recipe_of_one_task_for_every_task_that_several_patch():
    several = {path: parsed(path)[0] for path in FILES if path.stem in SEVERAL}
    assert [(path.parent.name, path.stem) for path in several] == list(product(SIZES, SEVERAL))
    for path, recipe in several.items():
        alone = [other.stem for other in FILES if other.parent == path.parent and other.stem not in SEVERAL + MERGED]
        assert recipe.strategy == path.stem.split("_")[0]
        assert recipe.patching_tasks == alone
        assert len(recipe.alphas) == 21
        assert all(get_task(name).splits.train for name in recipe.patching_tasks)
    for path in (path for path in FILES if path.stem not in SEVERAL + MERGED):
        recipe, _ = parsed(path)
        assert (recipe.strategy, recipe.patching_tasks) == ("single", [path.stem])


@pytest.mark.parametrize("stem", ["parallel_public", *MERGED])
@pytest.mark.parametrize("size", SIZES)
def test_public_models_are_of_the_base_and_of_their_task(size, stem):
    recipe, _ = parsed(RECIPES / size / f"{stem}.yaml")
    thetas = yaml.safe_load(recipe.thetas)
    assert list(thetas) == [task.name for task in get_tasks(recipe.patching_tasks)]
    for task, name in thetas.items():
        assert name == f"tanganke/{size}_{'stanford-cars' if task == 'cars' else task}"
        assert get_task(task).splits.train


@pytest.mark.parametrize("size", SIZES)
def test_public_models_are_merged_by_every_method(size):
    merged = {path.stem: parsed(path)[0] for path in FILES if path.parent.name == size and path.stem in MERGED}
    assert list(merged) == MERGED
    for stem, recipe in merged.items():
        assert (recipe.strategy, recipe.method) == ("parallel", stem.removeprefix("merging8_"))
        assert recipe.patching_tasks == ["merging8"]
        assert len(recipe.alphas) == 21
        assert (max(recipe.alphas) > 1) == recipe.extrapolate


@pytest.mark.parametrize("path", sorted((RECIPES / "typographic").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipe_of_attacks_trains_on_attacked_images_and_looks_at_photos(path):
    recipe, args = parsed(path)
    assert recipe.model == f"openai/{path.stem}"
    [patched] = [get_task(task) for task in recipe.patching_tasks]
    assert (patched.name, patched.dataset) == ("sun397-attack", get_task("sun397").dataset)
    assert (patched.attack.font_sizes, patched.attack.image_size) == ((20, 40), 224)
    others = [get_task(task) for task in recipe.supported_tasks + recipe.transfer_tasks]
    assert not any(task.attack for task in others)
    photos = [task.name for task in others if isinstance(task, TypographicTask)]
    assert photos == ["scam", "scam_clean", "scam_synthetic"]
    assert (args.learning_rate, args.max_steps, args.warmup_steps) == (1e-5, 2000, 200)


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
