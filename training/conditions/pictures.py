"""The frames that the contact sheet shows: one frame in each condition, at each severity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from training.conditions.condition import Condition, FrameCondition
from training.conditions.measure import RENDERED_FOLDER, RenderedFrames
from training.conditions.rendered import CLEAN, RenderedCondition, all_settings, render_settings, rendered_source
from training.conditions.sheet import SheetRow
from training.data.image_files import read_image
from training.data.readers.frame_folder import FrameFolder
from training.data.sample import Sample

_LOOKED_AT = 20  # frames that the sheet may show


def sheet_rows(
    data: FrameFolder,
    conditions: Sequence[Condition],
    severities: Sequence[int],
    folder: Path,
    rendered: RenderedFrames,
) -> tuple[str, list[SheetRow]]:
    """Return the title of the sheet and its rows.

    Args:
        data: Frames. The sheet shows the one with the most boxes of the first ones.
        conditions: The conditions to show.
        severities: The severities to show.
        folder: Folder of rendered frames.
        rendered: Which frames the renderer makes.
    """
    sample = max((data[place] for place in range(min(_LOOKED_AT, len(data)))), key=lambda each: len(each.labels))
    title = f"{data.folder.name}: frame {sample.name}"
    return title, list(_rows(sample, conditions, severities, folder / RENDERED_FOLDER, rendered))


def _rows(
    sample: Sample,
    conditions: Sequence[Condition],
    severities: Sequence[int],
    folder: Path,
    rendered: RenderedFrames,
) -> Iterator[SheetRow]:
    columns = (0, *severities)
    if rendered.count:
        render_settings(folder, all_settings(conditions, severities), rendered.count, rendered.seed)
    for condition in conditions:
        if isinstance(condition, FrameCondition):
            yield SheetRow(condition, {each: condition.applied(sample, each).image_bgr for each in columns})
        elif isinstance(condition, RenderedCondition):
            settings = {0: CLEAN, **{each: condition.setting(condition.value(each)) for each in severities}}
            sources = {
                each: rendered_source(folder, setting, rendered.count, rendered.seed)
                for each, setting in settings.items()
            }
            yield SheetRow(condition, {each: read_image(source.image_files()[0]) for each, source in sources.items()})
