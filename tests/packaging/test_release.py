"""Test a release: one version everywhere, a changelog that ROS tools can read, and a wheel that works alone."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import docutils.core
import docutils.nodes
import numpy as np
import pytest
from catkin_pkg.changelog import BulletList, Changelog, populate_changelog_from_rst
from checkout import ROOT, copy_checkout

import ros_kd_perception
from ros_kd_perception.system.shipped_files import SHIPPED_INT8_STUDENT, SHIPPED_STUDENT

PACKAGE = "ros_kd_perception"
KINDS = ("Added", "Changed", "Fixed")
BUILD = "import sys, setuptools.build_meta as backend; print(getattr(backend, sys.argv[1])(sys.argv[2]))"


@pytest.fixture(scope="module")
def changelog() -> str:
    return (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def releases(changelog: str) -> list[tuple[str, datetime, list[object]]]:
    """Return version, date and contents of each release as bloom reads them, newest first."""
    parsed = populate_changelog_from_rst(Changelog(PACKAGE), changelog)
    return list(parsed.foreach_version(reverse=True))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    return build("build_sdist", copy_checkout(folder / "source"), folder)


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel built from the sdist, without the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.unpack_archive(sdist, folder)
    (source,) = folder.iterdir()
    return build("build_wheel", source, folder)


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Virtual environment with the wheel and all packages of the tests."""
    return install(wheel, tmp_path_factory.mktemp("environment"), Path(sysconfig.get_paths()["purelib"]))


@pytest.fixture(scope="module")
def bare_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Virtual environment with the wheel and NumPy only, as pip installs it without extras."""
    numpy_alone = tmp_path_factory.mktemp("numpy_alone")
    for path in Path(np.__file__).parents[1].glob("numpy*"):
        (numpy_alone / path.name).symlink_to(path)
    return install(wheel, tmp_path_factory.mktemp("bare_environment"), numpy_alone)


def install(wheel: Path, environment: Path, packages: Path) -> Path:
    """Make a virtual environment with the wheel, which also finds the packages in a folder.

    The .pth files of that folder have no effect there, so an installed checkout is not found.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = str(environment / "bin" / "python")
    command = [sys.executable, "-m", "pip", "--python", python, "install", "-qq", "--no-deps", "--no-index"]
    subprocess.run([*command, "--no-compile", str(wheel)], check=True)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "lent.pth").write_text(f"{packages}\n", encoding="utf-8")
    return environment


def build(hook: str, source: Path, destination: Path) -> Path:
    """Call a hook of the build backend like pip and build do; return the file that it writes."""
    command = [sys.executable, "-c", BUILD, hook, str(destination)]
    outcome = subprocess.run(command, cwd=source, check=True, capture_output=True, text=True, timeout=120)
    return destination / outcome.stdout.splitlines()[-1]


def run(environment: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an installed command outside the checkout."""
    variables = {"PATH": os.defpath, "HOME": str(environment), "XDG_CACHE_HOME": str(environment / "cache")}
    return subprocess.run(
        [str(environment / "bin" / command), *arguments],
        cwd=environment,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def shipped_files() -> Iterator[str]:
    """Yield every file of the package in the checkout, with its name in the wheel."""
    for path in (ROOT / PACKAGE).rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            yield path.relative_to(ROOT).as_posix()


def shared_files() -> Iterator[str]:
    """Yield every file that belongs into the share directory, as its path below the checkout."""
    yield "package.xml"
    for folder in ("launch", "config"):
        yield from (path.relative_to(ROOT).as_posix() for path in (ROOT / folder).iterdir() if path.is_file())
    models = ("models/README.md", SHIPPED_STUDENT, SHIPPED_INT8_STUDENT)
    yield from (name for name in models if (ROOT / name).is_file())


def test_one_version_everywhere(releases: list[tuple[str, datetime, list[object]]], wheel: Path) -> None:
    newest, _, _ = releases[0]

    assert ElementTree.parse(ROOT / "package.xml").getroot().findtext("version") == newest
    assert ros_kd_perception.__version__ == newest
    assert wheel.name == f"{PACKAGE}-{newest}-py3-none-any.whl"
    assert re.search(rf"at present {re.escape(newest.rpartition('.')[0])},", (ROOT / "SECURITY.md").read_text("utf-8"))


def test_changelog_is_sound_restructured_text(changelog: str) -> None:
    document = docutils.core.publish_doctree(changelog, settings_overrides={"report_level": 1, "halt_level": 2})

    assert not list(document.findall(docutils.nodes.system_message))


def test_changelog_sorts_each_release_by_kind(releases: list[tuple[str, datetime, list[object]]]) -> None:
    assert [version for version, _, _ in releases[-2:]] == ["0.2.0", "0.1.0"]
    assert [date for _, date, _ in releases] == sorted((date for _, date, _ in releases), reverse=True)
    for version, _, contents in releases:
        kinds = [str(before) for before, after in itertools.pairwise(contents) if is_bullets(after)]
        assert kinds == [f"**{kind}**" for kind in KINDS if f"**{kind}**" in kinds], version
        assert len(kinds) == sum(map(is_bullets, contents)) > 0, f"{version} has entries without their kind"


def is_bullets(content: object) -> bool:
    return isinstance(content, BulletList)


def test_sdist_holds_what_the_wheel_is_built_from(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    expected = {*shipped_files(), *shared_files(), "setup.py", "setup.cfg", "pyproject.toml", "LICENSE", "README.md"}
    assert expected | {"CHANGELOG.rst"} <= names
    assert not [name for name in names if name.partition("/")[0] in ("training", "tests", "docs", "out", "data")]


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    data = f"{PACKAGE}-{ros_kd_perception.__version__}.data/data/share"
    shared = {f"{data}/{PACKAGE}/{name}" for name in shared_files()}
    shared.add(f"{data}/ament_index/resource_index/packages/{PACKAGE}")
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == {*shipped_files(), *shared}
    assert f"{PACKAGE}/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in metadata)


def test_wheel_replays_a_bag_outside_of_the_checkout(environment: Path) -> None:
    where = run(environment, "python", "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(environment)
    rendered = run(
        environment,
        "render_drive",
        "-o",
        "drive.mcap",
        "--size",
        "192x128",
        "--duration-s",
        "0.3",
        "--cameras",
        "front",
    )
    assert rendered.returncode == 0, rendered.stderr
    replayed = run(environment, "replay_bag", "drive.mcap", "-o", "perceived.mcap")

    assert replayed.returncode == 0, replayed.stderr
    assert (environment / "perceived.mcap").stat().st_size > 0


@pytest.mark.parametrize(
    ("command", "package", "remedy"),
    [
        ("replay_bag", "tqdm", "[cpu,bag]"),
        ("render_drive", "cv2", "[cpu,bag]"),
        ("perception_node", "rclpy", "source a ROS 2 installation"),
        ("play_bag", "rclpy", "source a ROS 2 installation"),
        ("record_perception", "rclpy", "source a ROS 2 installation"),
        ("demo", "cv2", "run `make demo`"),
    ],
)
def test_command_without_its_extras_says_what_to_install(
    bare_environment: Path, command: str, package: str, remedy: str
) -> None:
    outcome = run(bare_environment, command)

    assert outcome.returncode == 2
    (sentence,) = outcome.stderr.splitlines()
    assert sentence.startswith(f"{command}: expected the Python package {package}, found none; ")
    assert remedy in sentence


def test_describe_model_without_onnx_runtime_says_what_to_install(bare_environment: Path) -> None:
    outcome = run(bare_environment, "describe_model")

    assert outcome.returncode == 2
    (sentence,) = outcome.stderr.splitlines()
    assert sentence.startswith("describe_model: expected ONNX Runtime on this machine, got: ")
    assert "install the extra [cpu]" in sentence


@pytest.mark.parametrize(
    ("package", "sentence"),
    [
        ("rosbags", "expected the Python package rosbags for reading and writing bags, found none; install the [bag] "),
        ("yaml", "expected the Python package yaml for reading and writing bags, found none; install the [bag] "),
        ("onnxruntime", "expected ONNX Runtime on this machine, got: "),
    ],
)
def test_command_that_lacks_one_package_names_it(package: str, sentence: str) -> None:
    program = f"import sys; sys.modules['{package}'] = None; from {PACKAGE}.commands import replay_bag; "
    command = [sys.executable, "-c", f"{program} sys.exit(replay_bag())"]

    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert outcome.returncode == 2
    assert outcome.stderr.startswith(f"replay_bag: {sentence}")
    assert len(outcome.stderr.splitlines()) == 1


def test_command_whose_package_is_broken_shows_where(tmp_path: Path) -> None:
    (tmp_path / "tqdm.py").write_text("raise ImportError('libbroken.so: cannot open shared object file')")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from {PACKAGE}.commands import replay_bag; replay_bag()"
    )

    outcome = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert outcome.returncode == 1
    assert outcome.stderr.startswith("Traceback")
    assert "libbroken.so" in outcome.stderr
