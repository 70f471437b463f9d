"""Recipes are read, changed by overrides, and refused in one sentence."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from checkout import ROOT

from training.config.sections import BackboneRecipe
from training.data.readers.bag import BagSource
from training.data.readers.registry import BY_KIND
from training.errors import RecipeError
from training.recipe import is_noted_recipe, load_recipe, parse_noted_recipe, parse_recipe

TRAINING = ROOT / "training"
RECIPES = sorted((TRAINING / "recipes").glob("*.yaml"))
COMPARISONS = sorted((TRAINING / "comparisons").glob("*.yaml"))
SMALL = """
name: small
data:
  train:
    - {kind: rendered, folder: somewhere}
"""


def kinds_with(key: str) -> str:
    """Return the kinds of sources that have a key, as an error message lists them."""
    return ", ".join(sorted(kind for kind, source in BY_KIND.items() if key in source.model_fields))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid_and_named_after_their_files(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert parse_recipe(recipe.to_yaml()) == recipe


@pytest.mark.parametrize("path", RECIPES + COMPARISONS, ids=lambda path: path.stem)
def test_shipped_recipes_look_for_frames_where_the_documentation_puts_them(path: Path) -> None:
    folders = re.findall(r"\bfolder: ([^,}\s]+)", path.read_text(encoding="utf-8"))
    assert folders
    frames = ("camvid/", "kitti", "boston", "motorway", "roadsigns", "found/")
    documented = (*(f"data/{name}" for name in frames), "out/rendered/", "out/bag/")
    for folder in folders:
        assert folder.startswith(documented)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("epoch=3", "unknown key epoch; did you mean epochs?"),
        ("optimizer.learning_rat=1", "unknown key optimizer.learning_rat; did you mean learning_rate?"),
        ("zzz=1", "unknown key zzz; valid are"),
        ("epochs=0", "epochs must be from 1 to 1000000, got 0"),
        ("epochs=2.5", "epochs must be a whole number, got 2.5"),
        ("epochs=yes", "epochs must be a whole number, got True"),
        ("size=x", "size must be one of n, s, m"),
        ("augmentation.flip=1.5", "augmentation.flip must be from 0 to 1, got 1.5"),
        ("optimizer.learning_rate=.inf", "optimizer.learning_rate must be"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate must be a number, got 'fast'"),
        ("data.crop_height=100", "multiples of 32"),
        ("augmentation.scale_min=3", "above augmentation.scale_max"),
        ("data.train.0.kind=rendred", "did you mean rendered?"),
        ("data.train.0.kind=[rendered]", "data.train.0.kind must be one of"),
        ('data.train.0.folder="a\\0b"', "data.train.0.folder must be a path"),
        ("name=../../escaped", "name becomes a folder"),
        ("validation.input_height=8224", "must be from 32 to 8192"),
        ("data.train=[]", "at least one source"),
        ("data.train.0.kind=unlabeled", "nothing can be learnt without a teacher"),
        (
            "data.train=[{kind: bag, folder: x}, {kind: unlabeled, folder: x}]",
            "add a labelled source or a distillation",
        ),
        ("data.train.4.kind=camvid", "no such place in the settings"),
        ("loss.class_weights=[1, 2]", "one for each class, got 2"),
        ("validation.segmentation={kind: camvid}", "key validation.segmentation.folder is missing"),
        ("trained_part=detection", "needs initial_weights"),
        ("initial_weights=[a.ckpt, a.ckpt]", "initial_weights must be different checkpoints"),
        ("initial_weights=['']", "initial_weights must be different checkpoints"),
        ("initial_weights=3", "initial_weights must be text, got 3"),
        ("initial_weights=[3]", "initial_weights.0 must be text, got 3"),
        ("data=3", "data must hold keys with values"),
        ("data.train.0=3", "data.train.0 must hold keys with values, got 3"),
        ("data.train=3", "data.train must be a list, got 3"),
        ("data.train=[{folder: x}]", "key data.train.0.kind is missing; valid are"),
        (
            "data.train.0.stride=2",
            f"0.stride does not apply to kind rendered, only to {kinds_with('stride')}; remove it from data.train.0",
        ),
        ("data.train=[{kin: camvid, folder: x}]", "unknown key data.train.0.kin; did you mean kind?"),
        ("data.train=[{kind: camvid, folder: x, 5: a}]", "unknown key data.train.0.5; valid are kind, folder"),
        ("optimizer={true: a}", "unknown key optimizer.True; valid are learning_rate,"),
        ("optimizer={null: a}", "unknown key optimizer.None; valid are learning_rate,"),
        ("data.train.0.strid=2", "unknown key data.train.0.strid; valid are kind, folder"),
        ("data.train.0.limits=2", "unknown key data.train.0.limits; did you mean limit?"),
        (
            "data.train=[{kind: bag, folder: x, box_weight: 1}]",
            f"data.train.0.box_weight does not apply to kind bag, only to {kinds_with('box_weight')}; remove it",
        ),
        ("validation.segmentation={kind: camvid, folder: x, topics: []}", "segmentation.topics does not apply to kind"),
        ("validation.required='true'", "validation.required must be true or false, got 'true'"),
        ("validation.required=1", "validation.required must be true or false, got 1"),
        ("epochs='3'", "epochs must be a whole number, got '3'"),
        ("epochs=3.0", "epochs must be a whole number, got 3.0"),
        ("optimizer.learning_rate='0.1'", "optimizer.learning_rate must be a number, got '0.1'"),
        ("loss.class_weights.0=x", "loss.class_weights must be a list, got {'0': 'x'}"),
        ("loss.class_weights=[1, x]", "loss.class_weights.1 must be a number, got 'x'"),
        ("loss.class_weights=[-1]", "loss.class_weights.0 must be from 0 to 1000000, got -1"),
        ("data.train.0.include_drives=[0001TP, 6]", "data.train.0.include_drives.1 must be text, got 6"),
        ("distillation={teacher: t, terms: [{kind: dis}]}", "distillation.terms.0.kind must be one of"),
        ("distillation={teacher: t, terms: [{kind: hint}]}", "key distillation.terms.0.at is missing"),
        (
            "distillation={teacher: t, terms: [{kind: hint, at: p4, temperature: 2}]}",
            "distillation.terms.0.temperature does not apply to kind hint, only to",
        ),
        ("epochs=" + "9" * 400, "epochs must be from 1 to 1000000, got 999"),
        ("optimizer.learning_rate=" + "9" * 400, "optimizer.learning_rate must be from 0 to 1000, got 999"),
        ("optimizer.learning_rate=0x" + "f" * 5000, "numbers of at most 400 characters"),
        ('data.train.0.folder="\\ud800"', "expected characters of Unicode"),
        (
            "backbone={architecture: resnet, settings: {x: .nan}}",
            "backbone.settings.x must be a finite number, got nan",
        ),
        ("distillation={teacher: '', terms: [{kind: logit_mse}]}", "distillation.teacher must name a checkpoint"),
        ("loss={segmentation: 0, detection: 0}", "leave nothing to learn where trained_part is all; set one above 0"),
        ("loss.class_weights=[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]", "must have a weight above 0"),
        ("epochs=[" + "1, " * 5000 + "1]", "epochs must be a whole number, got [1, 1"),
        ("nonsense", "--override needs key=value"),
        ("backbone.pretrained=x", "key backbone.architecture is missing"),
        ("backbone={architecture: resnet, setings: {}}", "unknown key backbone.setings; did you mean settings?"),
        ("backbone={architecture: resnet, settings: [1]}", "backbone.settings must hold keys with values, got [1]"),
        (
            "backbone={architecture: resnet, settings: {1: 2}}",
            "backbone.settings.1 is a key, which must be text, got 1",
        ),
        ("backbone={architecture: resnet, settings: {x: [2026-01-01]}}", "backbone.settings.x.0 must be a number"),
        ("backbone={architecture: resnet, settings: {out_indices: [1]}}", "leave it out"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse_recipe(SMALL, [override])
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_overrides_reach_nested_keys_and_numbers_without_a_dot() -> None:
    recipe = parse_recipe(SMALL, ["optimizer.learning_rate=1e-3", "data.train.0.share=2", "size=n"])
    assert recipe.optimizer.learning_rate == 1e-3
    assert recipe.data.train[0].share == 2.0
    assert recipe.size == "n"


def test_numbers_with_an_exponent_and_no_dot_are_numbers_everywhere() -> None:
    # YAML 1.1 reads them as text. A drive such as 0016E5 stays text.
    overrides = ["loss.class_weights=[" + "1e0, " * 10 + "5e-1]", "data.train.0.include_drives=[0016E5]"]
    recipe = parse_recipe(SMALL, [*overrides, "data.train.0.share=2E+1"])
    assert recipe.loss.class_weights == (1.0,) * 10 + (0.5,)
    assert recipe.data.train[0].share == 20.0
    assert recipe.to_yaml() == parse_recipe(recipe.to_yaml()).to_yaml()
    assert "0016E5" in recipe.to_yaml()


def test_the_recipe_of_a_checkpoint_may_have_the_keys_of_all_readers() -> None:
    # Version 0.1.0 wrote every key of every reader into every source.
    recipe = parse_recipe(SMALL, ["validation.segmentation={kind: camvid, folder: x}"])
    keys = ", box_weight: 1.0, topics: [], stride: 1, change_min: 0.01"
    bag = ", {kind: bag, folder: x, share: 0, include_drives: [], box_weight: 1.0}"
    noted = SMALL.replace(
        "- {kind: rendered, folder: somewhere}", f"[{{kind: rendered, folder: somewhere{keys}}}{bag}]"
    )
    noted += f"validation: {{segmentation: {{kind: camvid, folder: x{keys}}}, detection: null}}\n"
    read = parse_noted_recipe(noted)
    assert read.data.train[0] == recipe.data.train[0]
    assert read.data.train[1] == BagSource(folder=Path("x"), share=0)
    assert read.validation == recipe.validation
    with pytest.raises(RecipeError, match="topics does not apply to kind rendered"):
        parse_recipe(noted)


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "data: 3", "data: {train: [3, {kind: [x]}]}", "validation: [1]"])
def test_the_recipe_of_a_checkpoint_is_checked_like_any_other(text: str) -> None:
    with pytest.raises(RecipeError):
        parse_noted_recipe(text)


def test_a_run_keeps_its_recipe_when_a_version_adds_a_setting() -> None:
    recipe = parse_recipe(SMALL)
    text = recipe.to_yaml()
    earlier = text.replace("trained_part: all\n", "")
    assert earlier != text
    assert is_noted_recipe(recipe, "of the earlier text", earlier)
    assert not is_noted_recipe(recipe.replace(seed=recipe.seed + 1), "of the earlier text", earlier)
    assert not is_noted_recipe(recipe, "of a later version", text + "unknown_setting: 3\n")


def test_a_run_starts_from_no_checkpoint_one_or_several() -> None:
    assert parse_recipe(SMALL).starts == ()
    assert parse_recipe(SMALL, ["initial_weights=a.ckpt"]).starts == ("a.ckpt",)
    several = parse_recipe(SMALL, ["initial_weights=[a.ckpt, b.ckpt]"])
    assert several.starts == ("a.ckpt", "b.ckpt")
    assert parse_recipe(several.to_yaml()) == several


def test_the_backbone_is_read_written_and_optional() -> None:
    recipe = parse_recipe(SMALL, ["backbone.architecture=resnet", "backbone.settings.depths=[1, 2]", "size=l"])
    assert recipe.backbone == BackboneRecipe(architecture="resnet", settings={"depths": [1, 2]})
    assert parse_recipe(recipe.to_yaml()) == recipe
    plain = parse_recipe(SMALL)
    assert plain.backbone is None
    # the form in checkpoints of an earlier version
    without = "".join(line for line in plain.to_yaml().splitlines(True) if not line.startswith("backbone:"))
    assert without != plain.to_yaml()
    assert parse_recipe(without) == plain


def test_the_digest_depends_on_the_content_not_on_the_layout() -> None:
    assert parse_recipe(SMALL).sha256 == parse_recipe("# note\n" + SMALL + "epochs: 60\n").sha256
    assert parse_recipe(SMALL).sha256 != parse_recipe(SMALL, ["seed=1"]).sha256


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "!!python/object:os.system {}"])
def test_text_that_is_not_a_recipe_is_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        parse_recipe(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epochs: 1\nepochs: 2\n" + SMALL, "expected each key once on its level, got epochs twice"),
        ("optimizer: {ema_decay: 0.9, ema_decay: 0.99}\n" + SMALL, "got ema_decay twice"),
        ("backbone: {architecture: resnet, settings: &a {x: *a}}\n" + SMALL, "an alias contains itself"),
        (
            "size:\n  - &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(f"  - &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefgh"))
            + SMALL,
            "expected at most 10000 values, aliases written out",
        ),
    ],
)
def test_repeated_keys_and_endless_aliases_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        parse_recipe(text)


def test_an_alias_for_a_folder_is_read() -> None:
    text = SMALL.replace("{kind", "&frames {kind") + "validation: {segmentation: *frames}\n"
    recipe = parse_recipe(text)
    assert recipe.validation.segmentation == recipe.data.train[0]


@pytest.mark.parametrize("path", ["/dev/zero", "/"])
def test_a_device_or_a_folder_is_refused(path: str) -> None:
    with pytest.raises(RecipeError, match=r"expected a recipe, a text of at most|cannot be read as a recipe"):
        load_recipe(Path(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
