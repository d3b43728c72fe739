"""Patterns of files in a recipe are found beside it, and any text with stars is no error."""

import pytest
import yaml

from hf_paint.cli.recipe_paths import read_located_recipe


@pytest.fixture
def located(tmp_path):
    """Return a function that gives the absolute path of a task's data files in a recipe."""
    (tmp_path / "a[1]" / "deep").mkdir(parents=True)
    (tmp_path / "a[1]" / "deep" / "train.csv").touch()
    recipe = tmp_path / "a[1]" / "recipe.yaml"

    def locate(pattern):
        recipe.write_text(yaml.safe_dump({"patching_tasks": [{"dataset": "csv", "data_files": pattern}]}))
        [task] = read_located_recipe(str(recipe))["patching_tasks"]
        return task["data_files"]

    return locate


@pytest.mark.parametrize("pattern", ["deep/*.csv", "**/*.csv", "d**/train.csv", "*/tr**.csv", "***"])
def test_a_pattern_that_matches_is_beside_the_recipe(located, tmp_path, pattern):
    assert located(pattern) == f"{tmp_path}/a[1]/{pattern}"


@pytest.mark.parametrize("pattern", ["mnist***", "**x", "*/**x**/*", "[*", "*\u0001"])
def test_a_pattern_that_matches_nothing_stays(located, pattern):
    assert located(pattern) == pattern
