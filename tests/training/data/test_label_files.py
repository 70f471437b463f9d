"""Masks, images and boxes.json of other tools are read correctly, or refused before the training starts."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from checkout import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from label_sets import CAMVID
from PIL import Image

from training.__main__ import main
from training.config.sections import AugmentationRecipe
from training.data.augmentation import SOURCE_SIDE_MIN_PX, augment
from training.data.readers.registry import BY_KIND, open_source
from training.data.readers.source import Source
from training.data.readers.unlabeled import UnlabeledSource
from training.data.sample import Sample
from training.errors import DataError
from training.export.network_inputs import read_network_inputs

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, PALETTE: 1, RGB: 3, GREY_ALPHA: 2, RGBA: 4}
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def packed_rows(values: np.ndarray, depth: int) -> bytes:
    """Pack rows of samples (h, w * channels), each after the filter byte 0."""
    if depth == 16:
        rows = values.astype(">u2").view(np.uint8).reshape(len(values), -1)
    else:
        bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(len(values), -1), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in rows)


def png(values: np.ndarray, colour: int = GREY, depth: int = 8, interlaced: bool = False, extra: bytes = b"") -> bytes:
    """Write a PNG of values (h, w) or (h, w, channels) by the specification; Pillow writes only some kinds."""
    height, width = values.shape[:2]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    parts = [values[y::step_y, x::step_x] for y, x, step_y, step_x in passes]
    rows = b"".join(packed_rows(part.reshape(len(part), -1), depth) for part in parts if part.size)
    palette = bytes((37 * i) % 256 for i in range(3 << depth))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)),
            chunk(b"PLTE", palette) if colour == PALETTE else b"",
            extra,
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        )
    )


def exif(orientation: int) -> bytes:
    return b"II*\x00" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def turned_jpeg(picture: np.ndarray, orientation: int, xmp: bool = False) -> bytes:
    content = cv2.imencode(".jpg", picture)[1].tobytes()
    segment = b"Exif\0\0" + exif(orientation)
    if xmp:
        segment = f'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation="{orientation}"/>'.encode()
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[2:]


def write_folder(folder: Path, mask_png: bytes, size: tuple[int, int] = (40, 64), kind: str = "camvid") -> Source:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    (folder / "images" / "a.jpg").write_bytes(cv2.imencode(".jpg", np.full((*size, 3), 90, np.uint8))[1].tobytes())
    (folder / "masks" / "a.png").write_bytes(mask_png)
    return BY_KIND[kind](folder=folder)


def half_road(height: int = 40, width: int = 64) -> np.ndarray:
    ids = np.zeros((height, width), np.uint8)
    ids[height // 2 :] = 3
    return ids


def test_palette_mask_is_read_by_its_indices(tmp_path: Path) -> None:
    # Most tools write palettes: VOC, labelme, CVAT, mmseg.
    ids = np.full((360, 640), 3, np.uint8)
    ids[:180] = 0
    ids[150:220, 40:140] = 8
    mask = Image.fromarray(ids).convert("P")
    mask.putpalette([(factor * i) % 256 for i in range(256) for factor in (37, 91, 151)])
    content = io.BytesIO()
    mask.save(content, "png")
    sample = open_source(write_folder(tmp_path, content.getvalue(), (360, 640)))[0]
    np.testing.assert_array_equal(sample.mask, ids)
    assert sample.labels.tolist() == [0]


KINDS_OF_IDS = [(GREY, depth) for depth in (1, 2, 4, 8, 16)] + [(PALETTE, depth) for depth in (1, 2, 4, 8)]


@settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS_OF_IDS),
    interlaced=st.booleans(),
    size=st.tuples(st.integers(32, 50), st.integers(32, 50)),
    see_through=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_ids_are_the_numbers_in_the_file(
    kind: tuple[int, int],
    interlaced: bool,
    size: tuple[int, int],
    see_through: bool,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    colour, depth = kind
    ids = np.random.default_rng(seed).integers(0, min(11, 1 << depth), size).astype(np.uint8)
    if depth >= 8:
        ids[:4] = 255
    extra = chunk(b"tRNS", b"\0" if colour == PALETTE else b"\0\0") if see_through else b""
    recipe = write_folder(tmp_path_factory.mktemp("ids"), png(ids, colour, depth, interlaced, extra), size)
    recipe = recipe.replace(check_shares=False)
    np.testing.assert_array_equal(open_source(recipe)[0].mask, ids)


def with_orientation(value: int) -> bytes:
    return png(half_road(), extra=chunk(b"eXIf", exif(value)))


def stretched(values: np.ndarray, channels: int) -> np.ndarray:
    return np.repeat(values[..., None], channels, axis=2)


@pytest.mark.parametrize(
    ("mask_png", "sentence"),
    [
        (
            png(stretched(half_road(), 3), RGB),
            r"a\.png: expected class ids in the one channel .* got RGB; export the ids",
        ),
        (png(stretched(half_road(), 2), GREY_ALPHA), r"got grey with alpha;"),
        (png(stretched(half_road(), 4), RGBA), r"got RGB with alpha;"),
        (
            png(np.full((40, 64), 300, np.uint16), depth=16),
            r"label set \w+ \([0-9.]+\) or 255, got \[300\]",
        ),
        (
            png(np.full((40, 64), 3 + 256, np.uint16), depth=16),
            r"label set \w+ \([0-9.]+\) or 255, got \[259\]",
        ),
        (png(np.full((40, 64), 12, np.uint8), PALETTE), r"label set \w+ \([0-9.]+\) or 255, got \[12\]"),
        (with_orientation(6), r"masks/a\.png: .*stored as they are shown, got EXIF orientation 6"),
        (png(half_road())[:-40], r"masks/a\.png: expected a whole PNG image .*cut off"),
        (png(half_road()).replace(b"IDAT", b"IDAt"), r"masks/a\.png: expected a whole PNG .*checksum"),
        (png(half_road(40, 63)), r"like its image, got \(40, 63\)"),
        (
            cv2.imencode(".jpg", half_road())[1].tobytes(),
            r"masks/a\.png: expected a PNG image as its suffix says, got a JPEG",
        ),
        (b"", r"masks/a\.png: expected a whole PNG image"),
    ],
)
def test_a_mask_without_class_ids_is_refused(mask_png: bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence) as error:
        open_source(write_folder(tmp_path, mask_png))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("colour", "depth"), KINDS_OF_IDS)
def test_a_mask_with_too_few_pixels_is_refused(colour: int, depth: int, tmp_path: Path) -> None:
    # Every chunk is whole, but the pixels are those of the upper half.
    content = png(np.ones((20, 64), np.uint8), colour, depth)
    header = b"IHDR" + struct.pack(">IIBBBBB", 64, 40, depth, colour, 0, 0, 0)
    content = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    with pytest.raises(DataError, match=r"masks/a\.png: expected a whole PNG image"):
        open_source(write_folder(tmp_path, content))


@pytest.mark.parametrize(("orientation", "xmp"), [*((value, False) for value in range(2, 9)), (6, True)])
def test_turned_image_with_labels_is_refused(orientation: int, xmp: bool, tmp_path: Path) -> None:
    # The camera is mounted upside down. Every labelling tool turns the picture before it is labelled.
    recipe = write_folder(tmp_path, png(half_road()))
    stored = cv2.imread(str(tmp_path / "images" / "a.jpg"))
    (tmp_path / "images" / "a.jpg").write_bytes(turned_jpeg(stored, orientation, xmp))
    with pytest.raises(DataError, match=rf"images/a\.jpg: .*EXIF orientation {orientation}.*auto-orient.*exiftool"):
        open_source(recipe)


def test_a_turned_png_is_refused_if_its_tag_is_at_the_end(tmp_path: Path) -> None:
    recipe = write_folder(tmp_path, png(half_road()))
    (tmp_path / "images" / "a.jpg").unlink()
    content = png(stretched(half_road(), 3), RGB)
    (tmp_path / "images" / "a.png").write_bytes(content[:-12] + chunk(b"eXIf", exif(3)) + content[-12:])
    with pytest.raises(DataError, match=r"images/a\.png: .*EXIF orientation 3"):
        open_source(recipe)


@pytest.mark.parametrize("tag", [exif(1), exif(0), exif(9), b"II*\0garbage", b""])
def test_a_tag_that_turns_no_image_is_accepted(tag: bytes, tmp_path: Path) -> None:
    recipe = write_folder(tmp_path, png(half_road(), extra=chunk(b"eXIf", tag)))
    np.testing.assert_array_equal(open_source(recipe)[0].mask, half_road())


def test_frames_without_labels_are_not_turned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = np.zeros((40, 64, 3), np.uint8)
    stored[:20] = (230, 170, 110)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(turned_jpeg(stored, 3))
    (tmp_path / "images" / "b.jpg").write_bytes(turned_jpeg(stored, 1))
    sample = open_source(UnlabeledSource(folder=tmp_path))[0]
    assert sample.image_bgr[5, 5, 0] > 200
    assert f"{tmp_path}: 1 of 2 images have an EXIF orientation" in capsys.readouterr().out
    # The frames for the check of an export are also read as on the vehicle.
    first, second = read_network_inputs(tmp_path / "images", 64, 64)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda f: shutil.copy(f / "images/a.jpg", f / "images/a.JPEG"),
            r"one image of the name a, there is a\.jpg too",
        ),
        (lambda f: (f / "masks/a.png").rename(f / "masks/A.png"), r"a\.jpg: expected its mask at .*is A\.png; rename"),
        (
            lambda f: (f / "masks/a.png").rename(f / "masks/a_L.png"),
            r"exactly the name of the image, there is a_L\.png",
        ),
        (lambda f: (f / "masks/a.png").rename(f / "masks/a.bmp"), r"a PNG with exactly the name.* there is a\.bmp"),
        (lambda f: (f / "masks/a.png").rename(f / "a.png"), r"a PNG with exactly the name.* there is none"),
        (lambda f: shutil.copy(f / "masks/a.png", f / "masks/a.PNG"), r"there is a\.PNG and a\.png"),
        (lambda f: (f / "masks").rename(f / "labels"), r"expected a folder with images/ and masks/"),
    ],
)
def test_a_mask_has_exactly_the_name_of_one_image(change: Callable[[Path], Any], sentence: str, tmp_path: Path) -> None:
    recipe = write_folder(tmp_path, png(half_road()))
    change(tmp_path)
    with pytest.raises(DataError, match=sentence):
        open_source(recipe)


def test_all_missing_masks_are_named_with_the_other_problems(tmp_path: Path) -> None:
    recipe = write_folder(tmp_path, png(half_road()))
    for name in "bcd":
        shutil.copy(tmp_path / "images/a.jpg", tmp_path / f"images/{name}.jpg")
    (tmp_path / "masks/c.png").write_bytes(png(np.full((40, 64), 99, np.uint8)))
    with pytest.raises(DataError) as raised:
        open_source(recipe)
    assert re.findall(r"^\S*/(\w+/\w\.\w+): expected", str(raised.value), re.MULTILINE) == [
        "images/b.jpg",
        "masks/c.png",
        "images/d.jpg",
    ]


def test_the_frames_that_are_right_are_handed_out_while_all_are_checked(tmp_path: Path) -> None:
    recipe = write_folder(tmp_path, png(half_road()))
    shutil.copy(tmp_path / "images/a.jpg", tmp_path / "images/b.jpg")
    folder = recipe.open(recipe.mapping_to(None))
    seen = []
    folder.on_frame = lambda path, sample: seen.append((path.name, sample.mask.tolist()))
    assert len(list(folder.problems())) == 1
    assert seen == [("a.jpg", half_road().tolist())]


def test_names_that_differ_in_case_are_two_frames(tmp_path: Path) -> None:
    recipe = write_folder(tmp_path, png(half_road()))
    shutil.copy(tmp_path / "images/a.jpg", tmp_path / "images/A.JPG")
    (tmp_path / "masks/A.PNG").write_bytes(png(np.full((40, 64), 5, np.uint8)))
    folder = open_source(recipe)
    assert {name: int(folder[index].mask[0, 0]) for index, name in enumerate(folder.names)} == {"A": 5, "a": 0}


def test_hidden_files_are_not_frames(tmp_path: Path) -> None:
    # What macOS leaves on disks of other systems, and in their archives.
    recipe = write_folder(tmp_path, png(half_road()))
    for name in ("images/._a.jpg", "images/.a.jpg.partial", "images/.DS_Store", "images/Thumbs.db", "masks/._a.png"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    assert open_source(recipe).names == ["a"]
    assert len(read_network_inputs(tmp_path / "images", 64, 64)) == 1


def test_names_that_are_not_unicode_are_accepted(tmp_path: Path) -> None:
    recipe = write_folder(tmp_path, png(half_road()))
    before = open_source(recipe).fingerprint()
    name = os.fsdecode(b"caf\xe9 1")  # Latin-1, out of an old archive
    for part, suffix in (("images", "jpg"), ("masks", "png")):
        (tmp_path / part / f"a.{suffix}").rename(tmp_path / part / f"{name}.{suffix}")
    folder = open_source(recipe)
    assert folder.names == [name]
    assert folder.fingerprint() != before


@pytest.mark.parametrize("part", ["images/a.jpg", "masks/a.png"])
def test_a_pipe_or_device_instead_of_an_image_is_refused(part: str, tmp_path: Path) -> None:
    recipe = write_folder(tmp_path, png(half_road()))
    for make in (lambda path: os.mkfifo(path), lambda path: path.symlink_to("/dev/zero")):
        (tmp_path / part).unlink()
        make(tmp_path / part)
        with pytest.raises(DataError, match=rf"{part}: expected a file with an image, got a folder, pipe or device"):
            open_source(recipe)


def test_an_image_with_the_suffix_of_another_format_is_refused(tmp_path: Path) -> None:
    recipe = write_folder(tmp_path, png(half_road()))
    shutil.copy(tmp_path / "masks/a.png", tmp_path / "images/a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: expected a JPEG image as its suffix says, got a PNG; rename it"):
        open_source(recipe)


def test_pictures_of_other_formats_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_folder(tmp_path, png(half_road()))
    cv2.imwrite(str(tmp_path / "images" / "b.bmp"), half_road())
    assert open_source(recipe).names == ["a"]
    assert "1 pictures that are not .jpg or .png are left out, b.bmp first" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '{"a": {"boxes_xyxy": [[1, 1, 9, 9]], "labels": [1.7]}}',
            r"whole numbers as labels, .*got \[1\.7\]",
        ),
        ('{"a": {"boxes_xyxy": [[1, 1, 9, 9]], "labels": ["car"]}}', r"whole numbers .*got \['car'\]"),
        ('{"a": {"boxes_xyxy": [[1, 1, 9, 9]], "labels": ["1"]}}', r"whole numbers .*got \['1'\]"),
        ('{"a": {"boxes_xyxy": [[1, 1, 9, 9]], "labels": [true]}}', r"whole numbers .*got \[True\]"),
        ('{"a": {"boxes_xyxy": [[1, 1, 9, 9]], "labels": [NaN]}}', r"whole numbers .*got \[nan\]"),
        ('{"a": {"boxes_xyxy": [[1, 1, 9, 9]], "labels": [1e30]}}', r"whole numbers .*got \[1e\+30\]"),
        ('{"a": {"boxes_xyxy": [[1, 1, 9, 9]], "labels": [null]}}', r"whole numbers .*got \[None\]"),
        ('{"a": {"boxes_xyxy": [[1, 1, 9, 9]], "labels": [[0]]}}', r"whole numbers .*got \[\[0\]\]"),
        ('{"a": {"boxes_xyxy": [[1, 1, 9, 9]], "labels": 0}}', r"labels \(n\), got"),
        ('{"a": [[1, 1, 9, 9]]}', r"labels \(n\), got"),
        ('{"a": {"boxes_xyxy": [["1", 1, 9, 9]], "labels": [0]}}', r"a box of four numbers"),
        ('{"a": {"boxes_xyxy": [[true, 1, 9, 9]], "labels": [0]}}', r"a box of four numbers"),
        ('{"a": {"boxes_xyxy": [1, 1, 9, 9], "labels": [0]}}', r"as many labels as boxes"),
        ('{"a": {"boxes_xyxy": [[[1, 1], [9, 9]]], "labels": [0]}}', r"a box of four numbers"),
        ('{"a": {"boxes_xyxy": [[1, 1, 9, 1e400]], "labels": [0]}}', r"corners within"),
        (f'{{"a": {{"boxes_xyxy": [[1, 1, 9, 1{"0" * 400}]], "labels": [0]}}}}', r"corners within"),
        ('{"a": {"boxes_xyxy": [], "labels": []}, "a": {"boxes_xyxy": [], "labels": []}}', r"\(a is there twice\)"),
        ('{"a": {"boxes_xyxy": [], "labels": [], "labels": []}}', r"\(labels is there twice\)"),
        ("[" * 100_000, r"boxes\.json: expected the boxes of all frames as JSON"),
        ("[]", r"boxes\.json: .*expected an object of frames, got list"),
    ],
)
def test_a_boxes_file_with_another_form_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    recipe = write_folder(tmp_path, png(half_road()), kind="rendered")
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(DataError, match=sentence) as error:
        open_source(recipe)
    assert len(str(error.value)) < 500


def test_a_box_that_is_listed_twice_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_folder(tmp_path, png(half_road()), kind="rendered")
    boxes, labels = [[1, 1, 9, 9], [2, 2, 9, 9], [1, 1, 9, 9], [1, 1, 9, 9]], [0, 0, 1, 0.0]
    (tmp_path / "boxes.json").write_text(json.dumps({"a": {"boxes_xyxy": boxes, "labels": labels}}))
    sample = open_source(recipe)[0]
    assert sample.boxes_xyxy.tolist() == boxes[:3]
    assert sample.labels.tolist() == labels[:3]
    assert "1 boxes are listed twice" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["camvid", "unlabeled"])
@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (31, 640), (640, 31)])
def test_an_image_too_small_for_a_crop_is_refused(size: tuple[int, int], kind: str, tmp_path: Path) -> None:
    recipe = write_folder(tmp_path, png(np.full(size, 3, np.uint8)), size, kind)
    with pytest.raises(DataError, match=rf"a\.jpg: expected at least 32 pixels.* got {size[1]} x {size[0]}; rem"):
        open_source(recipe)


def shrink(image: Path, mask: Path) -> None:
    cv2.imwrite(str(image), np.zeros((1, 1, 3), np.uint8))
    cv2.imwrite(str(mask), np.zeros((1, 1), np.uint8))


def mount_upside_down(image: Path, mask: Path) -> None:
    image.write_bytes(turned_jpeg(cv2.imread(str(image))[::-1, ::-1], 3))


def color(image: Path, mask: Path) -> None:
    cv2.imwrite(str(mask), cv2.applyColorMap(cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE), cv2.COLORMAP_JET))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (shrink, "expected at least 32 pixels a side"),
        (mount_upside_down, "got EXIF orientation 3"),
        (color, "expected class ids in the one channel of a PNG"),
    ],
)
def test_train_refuses_a_single_bad_frame_before_the_first_step(
    spoil: Callable[[Path, Path], None],
    sentence: str,
    rendered_samples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "samples"
    shutil.copytree(rendered_samples, folder)
    last = max((folder / "images").iterdir())
    spoil(last, folder / "masks" / f"{last.stem}.png")
    words = [f"data.train.0.folder={folder}", f"output={tmp_path / 'out'}", "validation={}"]
    assert main(["train", str(RECIPE), *(word for override in words for word in ("--override", override))]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert f"{last.stem}." in error
    assert not list(tmp_path.rglob("*.ckpt"))


@settings(max_examples=200)
@given(
    source=st.tuples(st.integers(SOURCE_SIDE_MIN_PX, 300), st.integers(SOURCE_SIDE_MIN_PX, 300)),
    long_side=st.sampled_from([0, 1500]),
    crop=st.tuples(st.sampled_from([32, 64, 320]), st.sampled_from([32, 96, 448])),
    scales=st.tuples(st.sampled_from([0.1, 0.5, 2.0, 10.0]), st.sampled_from([0.1, 0.5, 2.0, 10.0])),
    aspect=st.sampled_from([0.0, 0.1, 1.0]),
    seed=st.integers(0, 1000),
)
def test_every_accepted_image_can_be_augmented(
    source: tuple[int, int],
    long_side: int,
    crop: tuple[int, int],
    scales: tuple[float, float],
    aspect: float,
    seed: int,
) -> None:
    height, width = source[0], source[1] + long_side
    frame = Sample(
        "a",
        np.zeros((height, width, 3), np.uint8),
        np.full((height, width), 2, np.uint8),
        np.array([[1, 1, width, height]], np.float32),
        np.zeros(1, np.int64),
    )
    recipe = AugmentationRecipe(scale_min=min(scales), scale_max=max(scales), aspect=aspect, erase=1.0)
    sample = augment(frame, frame, *crop, recipe, np.random.default_rng(seed), CAMVID)
    assert sample.image_bgr.shape[:2] == crop
