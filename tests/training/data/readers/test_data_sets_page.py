"""docs/data_sets.md: its sources are valid, and each reader of labelled frames has a section."""

from __future__ import annotations

import re

import pytest
import yaml
from checkout import ROOT
from pydantic import TypeAdapter

from training.data.readers.registry import LABELED_KINDS, AnySource
from training.label_sets.loading import shipped_names

PAGE = (ROOT / "docs" / "data_sets.md").read_text(encoding="utf-8")
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
SOURCES = [source for block in BLOCKS for source in (block["data"]["train"] if isinstance(block, dict) else block)]
IN_TRAINING_MD = {"rendered", "camvid"}


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_the_sources_of_the_page_are_settings_of_a_reader(source: dict[str, object]) -> None:
    settings = TypeAdapter(AnySource).validate_python(source)
    assert settings.kind == source["kind"]


def test_every_kind_of_labelled_frames_has_a_source_on_the_page() -> None:
    assert {str(source["kind"]) for source in SOURCES} - {"unlabeled"} | IN_TRAINING_MD == set(LABELED_KINDS)


def test_the_label_sets_of_the_page_exist() -> None:
    named = set(re.findall(r"`((?:bdd100k|cityscapes|mapillary|camvid)\w*\d\w*)`", PAGE))
    assert {"bdd100k19", "cityscapes19", "mapillary66"} <= named
    assert named <= {*shipped_names(), *LABELED_KINDS}
