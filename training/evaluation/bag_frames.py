"""Frames of a bag for `evaluate` and `report`: without labels, or with those of teachers."""

from __future__ import annotations

from pathlib import Path

from training.data.readers.bag import BagSource
from training.data.readers.frames import FramesSource
from training.data.readers.source import Source
from training.data.readers.unlabeled import UnlabeledSource
from training.errors import DataError, RecipeError


def frames_of_bag(bag: BagSource, device: str = "cpu", output: Path | None = None) -> Source:
    """Return the source of a bag's frames, which are taken out into a folder, unless an earlier run has done so.

    With teachers, their labels lie beside the frames, and the folder changes with their weights and settings. An
    interrupted run goes on.

    Args:
        bag: The bag, and which of its frames to take.
        device: Device of teachers that run in PyTorch.
        output: Holds a folder for each bag and choice; None = out/frames/.

    Raises:
        DataError: See `check_bag`, or no frame can be decoded, or the folder cannot be written.
        RecipeError: See `check_bag`, or a teacher cannot be used.
    """
    from training.data.bag_frames import FRAMES_FOLDER, extract_frames, summary, take_frames_out
    from training.data.frame_choice import FrameChoice

    check_bag(bag)
    choice = FrameChoice(bag.topics, bag.stride, bag.change_min, max_frames=bag.limit)
    output = output or FRAMES_FOLDER
    if bag.teachers is None:
        return UnlabeledSource(folder=take_frames_out(bag.folder, choice, output))
    from training.extraction.pseudo_labels import PseudoLabelFiles
    from training.teachers.teachers_file import open_labeler

    labels = PseudoLabelFiles(open_labeler(bag.teachers, device))
    folder = output / f"{bag.folder.stem}-{choice.digest(bag.folder, labels.key)}"
    frames = extract_frames(bag.folder, choice, folder, labels)
    print(f"{bag.folder}: {summary(frames, folder)}")
    return FramesSource(folder=folder)


def check_bag(bag: BagSource) -> None:
    """Refuse a bag that cannot be scored, before anything slow is loaded.

    Raises:
        DataError: The bag does not exist, is empty, or has no camera or not the topics.
        RecipeError: Several cameras, and none is chosen; or the file of the teachers is not valid.
    """
    from ros_kd_perception.bags.reader import BagError
    from training.config.loading import load_settings
    from training.data.frame_choice import FrameChoice
    from training.teachers.teachers_file import TeachersFile

    try:
        with FrameChoice(bag.topics).open(bag.folder) as reader:
            topics = sorted(reader.cameras.values())
    except BagError as error:
        raise DataError(str(error)) from error
    if len(topics) > 1 and not bag.topics:
        raise RecipeError(
            f"{bag.folder}: expected one camera, or topics that say which, found {', '.join(topics)}; "
            f"choose by --topics, in a recipe by topics: [{topics[0]}]"
        )
    if bag.teachers is not None:
        load_settings(bag.teachers, TeachersFile)
