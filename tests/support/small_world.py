"""A small world in which the documentation runs as it is printed.

Models of the Hub are tiny ones on a local Hub, built-in tasks have a few drawn images, trainings have one step, and
the recipes have a few tasks and alphas. What the pages take for granted is there: pictures in `textures/`, finished
runs, and models and patches of `me`.
"""

import os
import re
import shlex
import shutil
from pathlib import Path

import yaml
from datasets import Dataset, Features, Image, Value
from transformers import AutoTokenizer, TrainingArguments

from drawn_tasks import draw_parquet, draw_rows, draw_textures
from hf_paint.adapters.patch import save_patch
from hf_paint.cli.main import main
from hf_paint.models.stored import StoredTower
from hf_paint.tasks import definitions
from hf_paint.training.training_args import PaintTrainingArguments
from hub_client import log_in
from hub_server import HubServer, User
from open_clip_models import MODEL, TEXT, OpenCLIP, random_model, write_open_clip
from pages import ROOT


BASE = "openai/clip-vit-base-patch32"
TRAINING = {"max_steps": 1, "warmup_steps": 0, "per_device_train_batch_size": 8}
"""What every training has instead of what the page says."""
SPLITS = {"train": 24, "validation": 12, "test": 12}
"""The images of each built-in task."""
RECIPE = {"alphas": [0, 0.3, 1], "search_budget": 4}
"""What every recipe that sets these keys has instead."""
FLAGS = {"push": ["--yes"]}
"""What a command gets in addition: one step may patch nothing, which a push refuses."""
PREPARED = f"""
hf-paint patch --model {BASE} --patching_tasks textures/ --supported_tasks cifar10
hf-paint patch --model {BASE} --patching_tasks mnist --supported_tasks cifar10 stl10 --output_dir runs/mnist
hf-paint extract-lora {BASE} runs/mnist/theta_1 --rank 2 --output_dir adapters
hf-paint push runs/mnist --repo_id me/clip-mnist --alphas 0 0.3 1
hf-paint push runs/mnist --repo_id me/mnist-patch --form delta
hf-paint push runs/mnist --repo_id me/cars-patch --form delta
hf-paint push runs/mnist --repo_id me/clip-mnist-patch --form delta
hf-paint push runs/clip-vit-base-patch32-textures --repo_id me/clip-textures --alphas 0 1
"""
"""The commands that make what the pages take for granted."""
COPIES = {
    "runs/textures": "runs/clip-vit-base-patch32-textures",
    "runs/joint": "runs/mnist",
    "runs/mnist/adapter": "adapters/rank-2",
    "MODEL": "runs/mnist/patched",
    "RUN": "runs/mnist",
}


class SmallWorld:
    """A working folder, a local Hub and small built-in tasks, until `patch` is undone.

    Args:
        root: An empty folder.
        model_folder: The tiny model that stands for all others.
        patch: A `pytest.MonkeyPatch`.
    """

    def __init__(self, root, model_folder, patch):
        self.here, self.untouched, self.model = root / "here", root / "untouched", Path(model_folder)
        self.hub = HubServer(root / "hub", users={"hf_test": User("me")}).start()
        log_in(self.hub, patch, HF_HUB_DISABLE_XET="0")
        self.here.mkdir()
        patch.chdir(self.here)
        patch.setattr(definitions, "DEFINITIONS", draw_tasks(root / "tasks"))
        definitions._parse_built_in.cache_clear()
        shorten_trainings(patch)
        self._prepare()
        shutil.copytree(self.here, self.untouched, symlinks=True)
        self.repositories = shutil.copytree(self.hub.store.root / "repos", root / "repos")

    def close(self):
        definitions._parse_built_in.cache_clear()
        self.hub.stop()

    def begin(self, code):
        """Make everything as it was before the first page, without what this code makes."""
        for folder, saved in ((self.here, self.untouched), (self.hub.store.root / "repos", self.repositories)):
            shutil.rmtree(folder)
            shutil.copytree(saved, folder, symlinks=True)
        os.chdir(self.here)
        for path in re.findall(r"output_dir[= ]\"?([\w./-]+)", code):
            shutil.rmtree(path, ignore_errors=True)
        for repo_id in re.findall(r"--repo_id ([\w./-]+)", code):
            self.hub.store.path("model", repo_id).unlink(missing_ok=True)

    def run(self, words):
        """Run an `hf-paint` command in this process and return its exit code."""
        words = [name for word in words[1:] for name in (expand(word) if "*" in word else [word])]
        return main([*words, *FLAGS.get(words[0], [])])

    def _prepare(self):
        draw_textures(Path("textures"))
        shutil.copy(next(Path("textures").rglob("*.png")), "picture.png")
        shutil.copy("picture.png", "picture.jpg")
        Path("textures.yaml").write_text(yaml.safe_dump({"name": "textures", "dataset": "textures/", "guess": True}))
        for name in (Path(BASE).name, "BASE"):
            shutil.copytree(self.model, name)
        write_open_clip(Path("SOURCE"), random_model())
        for name in ("zeroshot", "finetuned"):
            self._write_old(Path(name))
        small_recipes(Path("recipes"))
        shutil.copy("recipes/clip-vit-base-patch32/mnist.yaml", "recipe.yaml")
        for repo_id in (BASE, "openai/clip-vit-large-patch14", *public_models()):
            self._publish(repo_id, self.model)
        self._publish("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", Path("SOURCE"))
        self._publish("tanganke/gtsrb", draw_signs(Path("gtsrb")), "dataset")
        for line in PREPARED.strip().splitlines():
            if self.run(shlex.split(line)) != 0:
                raise AssertionError(line)
        for copy, original in COPIES.items():
            shutil.copytree(original, copy)
        theta_0, theta_1 = StoredTower(BASE.partition("/")[2]), StoredTower("runs/mnist/theta_1")
        for name in ("mnist", "cars"):
            save_patch(theta_0, theta_1, f"runs/{name}/patch", alpha=0.5)

    def _write_old(self, folder):
        """Write a model of open_clip that was saved without its tokenizer, which is that of all models here."""
        text = {"text_cfg": TEXT | {"vocab_size": len(AutoTokenizer.from_pretrained(self.model))}}
        write_open_clip(folder, OpenCLIP(**(MODEL | text)), text, tokenizer=False, binary=True)

    def _publish(self, repo_id, folder, kind="model"):
        """Put a model or a data set on the Hub, whoever owns it."""
        self.hub.store.create_repo(kind, repo_id)
        with self.hub.store.changing(kind, repo_id) as repo:
            files = {path.name: self.hub.store.entry(path.read_bytes()) for path in folder.iterdir()}
            repo.add_commit("main", files, "files")


def expand(pattern):
    """The paths that a shell puts in the place of a pattern."""
    return sorted(str(path) for path in Path().glob(pattern))


def shorten_trainings(patch):
    """Let every training have one small step, also that of a plain `Trainer`."""

    def shortened(whole):
        def post_init(args):
            args.use_cpu = args.disable_tqdm = True
            whole(args)
            for name, value in TRAINING.items():
                setattr(args, name, value)

        return post_init

    for arguments in (PaintTrainingArguments, TrainingArguments):
        patch.setattr(arguments, "__post_init__", shortened(arguments.__post_init__))


def draw_tasks(folder):
    """Write built-in tasks of the same names with a few drawn images of at most four of their classes."""
    folder.mkdir()
    files = {path.name: path for path in definitions.DEFINITIONS.iterdir() if path.name.endswith(".yaml")}
    tasks = {name: yaml.safe_load(path.read_text(encoding="utf-8")) for name, path in sorted(files.items())}
    for seed, (name, task) in enumerate(tasks.items()):
        whole = tasks[f"{task['extends']}.yaml"] if "extends" in task else task
        if "class_names" not in whole:
            continue
        names = tuple(map(str, whole["class_names"][:4]))
        data_files = {}
        for number, (split, count) in enumerate(SPLITS.items()):
            path = folder / f"{task['name']}-{split}.parquet"
            path.write_bytes(draw_parquet(count, 3 * seed + number, names, (40, 36), None))
            data_files[split] = str(path)
        drawn = {key: task[key] for key in ("name", "counting") if key in task}
        drawn |= {"dataset": "parquet", "data_files": data_files, "splits": {split: split for split in SPLITS}}
        drawn |= {"class_names": list(names), "templates": whole["templates"][:1]}
        (folder / name).write_text(yaml.safe_dump(drawn))
    return folder


def draw_signs(folder):
    """Write the data set of the tutorial, with the classes that it takes."""
    folder.mkdir()
    rows = draw_rows(48, 0, names=range(6))
    labels = [(12, 13, 14, 17, 35, 38)[label] for label in rows["label"]]
    features = Features({"image": Image(), "label": Value("int64")})
    signs = Dataset.from_dict({"image": rows["image"], "label": labels}, features=features)
    for split in ("train", "test"):
        signs.to_parquet(folder / f"{split}.parquet")
    return folder


def small_recipes(folder):
    """Copy the recipes, with fewer tasks, alphas and combinations."""
    shutil.copytree(ROOT / "recipes", folder)
    for path in folder.glob("clip-*/*.yaml"):
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        recipe |= {key: value for key, value in RECIPE.items() if key in recipe}
        thetas = recipe.get("thetas", {})
        recipe["patching_tasks"] = [*(thetas or recipe["patching_tasks"])][:2]  # a group is divided, too
        recipe["supported_tasks"] = recipe["supported_tasks"][:1]
        if thetas:
            recipe["thetas"] = {task: thetas[task] for task in recipe["patching_tasks"]}
        path.write_text(yaml.safe_dump(recipe))


def public_models():
    """The fine-tuned models of others that the small recipes merge."""
    recipes = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in Path("recipes").glob("clip-*/*.yaml")]
    return sorted({model for recipe in recipes for model in recipe.get("thetas", {}).values()})
