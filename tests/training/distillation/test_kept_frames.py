"""Test that what teachers said about whole frames is kept, and means the same when it is read and moved."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_teachers import PixelTeacher, WhiteBoxTeacher
from safetensors.numpy import load, save

from training.data.augmentation import cut, flip
from training.data.batch import collate
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.unlabeled import UnlabeledSource
from training.data.sample import Sample
from training.distillation.frame_words import frame_of, taught_of
from training.distillation.kept_frames import PARTS, KeptFrames, bytes_of, codes_of, probabilities_of
from training.distillation.whole_frames import WholeFrames
from training.errors import DataError
from training.label_sets.label_set import BoxClass, LabelClass, LabelSet
from training.label_sets.mapping import LabelMapping
from training.networks.student import build_student
from training.teachers.checkpoint import CheckpointTeacher
from training.teachers.ensemble import Ensemble, Member
from training.teachers.own_network import OwnNetwork
from training.teachers.seen import Seen, Teacher
from training.teachers.settings import FusionSettings
from training.teachers.taught import Taught, Voice

STUDENT = LabelSet(
    name="student",
    segmentation=tuple(LabelClass(id=n, name=f"class {n}") for n in range(3)),
    detection=(BoxClass(id=0, name="thing"),),
)
CPU = torch.device("cpu")
LARGEST_ERROR = math.log(1e6) / 255 / 2  # of a logarithm: half a step of eight bits


def ensemble(*teachers: Teacher, **keys: object) -> Ensemble:
    settings = CheckpointTeacher.checked({"kind": "checkpoint", "path": "unused", **keys})
    members = [
        Member("teachers", teacher, Voice.of(settings, LabelMapping.between(teacher.label_set, STUDENT)))
        for teacher in teachers
    ]
    return Ensemble(members, FusionSettings(), STUDENT)


def plain_teachers() -> Ensemble:
    masks, boxes = STUDENT.model_copy(update={"detection": ()}), STUDENT.model_copy(update={"segmentation": ()})
    return ensemble(PixelTeacher(masks), WhiteBoxTeacher(boxes), pixel_confidence_min=0.4)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> FrameFolder:
    """Three different frames, and one of them a second time; each shows one white object."""
    folder = tmp_path_factory.mktemp("frames")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        image = cv2.resize(rng.integers(0, 200, (9, 12, 3), dtype=np.uint8), (128, 96), interpolation=cv2.INTER_CUBIC)
        image = np.minimum(image, 250)
        image[40:60, 48:80] = 255
        cv2.imwrite(str(folder / "images" / f"{number}.png"), image)
    (folder / "images" / "again.png").write_bytes((folder / "images" / "0.png").read_bytes())
    source = UnlabeledSource(folder=folder)
    return source.open(source.mapping_to(STUDENT))


def warped(sample: Sample, kind: str) -> Sample:
    return flip(sample) if kind == "mirror" else cut(sample, (12, 8, 108, 72), 64, 96, visible_share_min=0.3)


def files_of(whole: WholeFrames) -> dict[Path, int]:
    """Return the time of the last change of each file that is kept."""
    folders = (folder for folder in whole.kept.folders.values() if folder.is_dir())
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.iterdir()}


def said_about(teachers: Ensemble, sample: Sample) -> Taught:
    return teachers(torch.from_numpy(np.ascontiguousarray(sample.image_bgr.transpose(2, 0, 1)))[None])


def differences(found: Taught, expected: Taught) -> float:
    """Return the largest difference of the logarithms of probabilities, where both teach; elsewhere they agree."""
    assert found.pixels is not None
    assert expected.pixels is not None
    assert found.pixels.counts is not None
    assert expected.pixels.counts is not None
    assert torch.equal(found.pixels.counts, expected.pixels.counts)
    logarithms = [each.pixels.logits.log_softmax(dim=1) for each in (found, expected) if each.pixels is not None]
    return float((logarithms[0] - logarithms[1]).abs().amax(dim=1)[found.pixels.counts].max())


def test_sizes_in_megapixels_have_words_of_their_own_and_leave_the_names_of_others() -> None:
    plain, enlarged, in_megapixels = (
        ensemble(PixelTeacher(STUDENT), views=views) for views in ({}, {"scales": [1.5]}, {"megapixels": [0.3]})
    )
    assert len({each.key_of("pixels") for each in (plain, enlarged, in_megapixels)}) == 3
    # The name of the folder before there were sizes in megapixels: what was kept then stays valid.
    assert plain.key_of("pixels").startswith("0979c68ffd8ae77b")


@pytest.mark.parametrize("kind", ["mirror", "crop"])
def test_kept_words_equal_those_about_the_changed_frame(frames: FrameFolder, kind: str, tmp_path: Path) -> None:
    teachers = plain_teachers()
    whole = WholeFrames(teachers, tmp_path, [frames])
    whole.look(CPU)
    for index in range(len(frames)):
        taught = Sample(**{**vars(frames[index]), "taught": whole.kept.of(0, index)})
        changed = warped(taught, kind)
        batch = collate([changed])
        assert batch.taught is not None
        found, expected = taught_of(batch.taught), said_about(teachers, changed)
        assert 0 < differences(found, expected) <= 2 * LARGEST_ERROR  # eight bits, and then probabilities sum to 1
        assert found.boxes is not None
        assert expected.boxes is not None
        assert torch.equal(found.boxes.objects[0].xyxy, expected.boxes.objects[0].xyxy)
        assert torch.equal(found.boxes.objects[0].scores, expected.boxes.objects[0].scores)
        assert found.boxes.known.tolist() == expected.boxes.known.tolist()


def test_a_network_that_looks_at_mirror_images_says_the_same_about_the_mirrored_frame(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_student("n", 3, 1).eval()
    teachers = ensemble(OwnNetwork(network, STUDENT), views={"mirrored": True}, pixel_confidence_min=0.0)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    empty = (np.full((64, 96), 255, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    taught = frame_of(said_about(teachers, Sample("frame", image, *empty)), STUDENT)
    kept = KeptFrames({part: tmp_path / part for part in PARTS}, [["a" * 64]])
    kept.write("a" * 64, taught)
    turned = flip(Sample("frame", image, *empty, taught=kept.of(0, 0)))
    batch = collate([turned])
    assert batch.taught is not None
    assert differences(taught_of(batch.taught), said_about(teachers, turned)) <= 2 * LARGEST_ERROR


@given(
    logits=st.lists(st.floats(-10, 10), min_size=2, max_size=11),
    temperature=st.sampled_from([0.5, 1.0, 2.0, 4.0, 10.0]),
)
def test_eight_bits_are_enough_at_any_temperature(logits: list[float], temperature: float) -> None:
    exact = torch.tensor(logits, dtype=torch.float64).softmax(dim=0)
    cells = exact.numpy().astype(np.float32)[None, None]
    kept = torch.from_numpy(probabilities_of(codes_of(cells)))[0, 0].double()
    assert float(kept.sum()) == pytest.approx(1, abs=1e-5)
    before, after = ((each.clamp(min=1e-6).log() / temperature).softmax(dim=0) for each in (exact, kept))
    # Each logarithm is off by half a step; below 1e-6 both are clamped.
    error = 2 * LARGEST_ERROR / temperature
    assert ((after / before).log().abs() <= error + 1e-4).all()


def test_cells_about_which_nothing_is_said_stay_so() -> None:
    cells = np.zeros((2, 2, 3), np.float32)
    cells[0, 0] = 1 / 3
    found = probabilities_of(codes_of(cells))
    np.testing.assert_allclose(found.sum(axis=2), [[1, 0], [0, 0]], atol=1e-6)


def test_each_frame_is_looked_at_once(frames: FrameFolder, tmp_path: Path) -> None:
    first = WholeFrames(plain_teachers(), tmp_path, [frames, None])
    assert len(first.missing) == 3  # of four files, two of which are equal
    assert first.growth[1] == 3 * bytes_of(96, 128, 3)
    assert "look at 3 of 3 frames once" in first.plan
    first.look(CPU, rank=1, processes=2)
    written = files_of(first)
    assert len(written) == 6
    of_pixels = list(first.kept.folders["pixels"].iterdir())
    assert all(path.stat().st_size == pytest.approx(bytes_of(96, 128, 3), rel=0.5) for path in of_pixels)
    second = WholeFrames(plain_teachers(), tmp_path, [frames])
    assert not second.missing
    of_worker = pickle.loads(pickle.dumps(second.kept))
    np.testing.assert_array_equal(of_worker.of(0, 1).objects.xyxy, [[48, 40, 80, 60]])
    second.look(CPU)
    assert files_of(second) == written


class Counted:
    """Counts the looks of a teacher."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher, self.label_set, self.sha256, self.looks = teacher, teacher.label_set, teacher.sha256, 0

    def __call__(self, images: torch.Tensor) -> Seen:
        self.looks += 1
        return self.teacher(images)


def test_another_teacher_of_masks_leaves_the_boxes_as_they_are(frames: FrameFolder, tmp_path: Path) -> None:
    masks, boxes = (STUDENT.model_copy(update={task: ()}) for task in ("detection", "segmentation"))
    first = WholeFrames(ensemble(PixelTeacher(masks), WhiteBoxTeacher(boxes)), tmp_path, [frames])
    first.look(CPU)
    before = files_of(first)

    new, known = Counted(PixelTeacher(masks, sha256="other pixels")), Counted(WhiteBoxTeacher(boxes))
    second = WholeFrames(ensemble(new, known), tmp_path, [frames])
    assert len(second.missing) == 3
    assert "look at 3 of 3 frames once for pixels, the rest is kept already" in second.plan
    second.look(CPU)
    assert (new.looks, known.looks) == (3, 0)
    assert second.kept.folders["boxes"] == first.kept.folders["boxes"]
    assert second.kept.folders["pixels"] != first.kept.folders["pixels"]
    assert files_of(second).items() - before.items() == {
        item for item in files_of(second).items() if item[0].parent == second.kept.folders["pixels"]
    }
    np.testing.assert_array_equal(second.kept.of(0, 1).objects.xyxy, [[48, 40, 80, 60]])

    alone = WholeFrames(ensemble(known), tmp_path, [frames])  # its boxes are kept already, and there are no masks
    assert alone.growth[1] == 0
    alone.look(CPU)
    assert sum(path.stat().st_size for path in alone.kept.folders["pixels"].iterdir()) < bytes_of(96, 128, 3)
    assert known.looks == 0
    assert alone.kept.of(0, 1).probabilities is None
    assert not alone.kept.of(0, 1).known_pixels.any()
    np.testing.assert_array_equal(alone.kept.of(0, 1).objects.xyxy, [[48, 40, 80, 60]])


def test_a_teacher_of_both_is_asked_for_what_is_missing(frames: FrameFolder, tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = Counted(OwnNetwork(build_student("n", 3, 1).eval(), STUDENT))
    whole = WholeFrames(ensemble(teacher, pixel_confidence_min=0.4), tmp_path, [frames])
    whole.look(CPU)
    looks, before = teacher.looks, files_of(whole)
    for part in PARTS:
        path = whole.kept.path(whole.kept.digests[0][1], part)
        content = path.read_bytes()
        path.unlink()
        again = WholeFrames(ensemble(teacher, pixel_confidence_min=0.4), tmp_path, [frames])
        assert list(again.missing) == [whole.kept.digests[0][1]]
        again.look(CPU)
        assert path.read_bytes() == content
    assert teacher.looks == looks + 2
    assert files_of(whole).keys() == before.keys()


def test_an_interrupted_look_goes_on(frames: FrameFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = WholeFrames(plain_teachers(), tmp_path, [frames])
    write, count = KeptFrames.write, []

    def interrupted(self: KeptFrames, digest: str, frame: object, parts: object) -> None:
        if count:
            raise KeyboardInterrupt
        count.append(digest)
        write(self, digest, frame, parts)  # type: ignore[arg-type]

    monkeypatch.setattr(KeptFrames, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopped.look(CPU)
    monkeypatch.undo()
    assert files_of(stopped).keys() == {stopped.kept.path(count[0], part) for part in PARTS}
    assert len(WholeFrames(plain_teachers(), tmp_path, [frames]).missing) == 2


@pytest.mark.parametrize("damage", ["half", "text", "shape", "type", "missing"])
def test_a_damaged_file_counts_as_not_kept(damage: str, frames: FrameFolder, tmp_path: Path) -> None:
    whole = WholeFrames(plain_teachers(), tmp_path, [frames])
    whole.look(CPU)
    part = "boxes" if damage in ("type", "missing") else "pixels"
    path = whole.kept.path(whole.kept.digests[0][1], part)
    content = path.read_bytes()
    arrays = load(content)
    if damage == "half":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        path.write_text("not arrays")
    elif damage == "shape":
        path.write_bytes(save(arrays | {"codes": arrays["codes"][0]}))
    elif damage == "type":
        path.write_bytes(save(arrays | {"objects_labels": arrays["objects_labels"].astype(np.float32)}))
    else:
        path.write_bytes(save({name: value for name, value in arrays.items() if name != "ignored_scores"}))
    with pytest.raises(DataError, match=r"missing or damaged since the start of the run"):
        whole.kept.of(0, 1)
    again = WholeFrames(plain_teachers(), tmp_path, [frames])
    assert list(again.missing) == [whole.kept.digests[0][1]]
    again.look(CPU)
    assert path.read_bytes() == content
