"""Run every ```bash and ```python block of the documentation in a fresh clone, page by page, as a reader pastes it.

Each page has a clone of its own, except a page that continues another one. Its blocks run there in order, each in a
shell that ends at the first command that fails. Clones run side by side. No two blocks write the same file, so a reader
may paste all pages into one clone. Blocks that are not run are listed with their reasons; `doc_blocks` describes the
markers.
"""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from checkout import ROOT, copy_checkout
from doc_blocks import NOT_RUN, PAGES, REASON_WORDS_MIN, SHORTENED, Block, blocks_in, blocks_of, stray_comments
from telemetry_watch import TelemetryWatch

from ros_kd_perception.sample_drive.training_samples import write_samples

BLOCK_TIMEOUT_S = 600.0  # on a busy machine
CLONES_AT_A_TIME = 2
CAMVID_VOID, VOID = 11, 255
CAMVID_PAGE = "docs/training.md"
GOES_ON_FROM = {"docs/distillation.md": CAMVID_PAGE}
INTERPRETERS = {"bash": ["bash", "-e", "-o", "pipefail"], "python": ["python"]}
OUTPUT_OPTIONS = {"-o", "--output", "--overlay", "--rerun", "--samples", "--json", "--plot", "--pictures"}
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PAGES_THAT_RUN = sorted({block.page for block in BLOCKS if not block.reason})
FIRST_PAGES = [page for page in PAGES_THAT_RUN if page not in GOES_ON_FROM]


def clone(destination: Path) -> Path:
    """Make a fresh clone of the checkout, including uncommitted changes to tracked files."""
    if not (ROOT / ".git").exists():  # sources without a git history
        return copy_checkout(destination)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(destination)], check=True)
    command = ["git", "diff", "HEAD", "--name-only", "--no-renames", "-z"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")[:-1]:
        if (ROOT / name).exists():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, destination / name)
        else:
            (destination / name).unlink()
    return destination


def write_camvid_stand_in(folder: Path) -> None:
    """Write rendered frames with CamVid's layout, ids and drives, where `docs/training.md` expects CamVid."""
    for split, seed, drives in (("train", 5, ("0001TP", "0016E5")), ("val", 6, ("0016E5",))):
        rendered = folder.parent / split
        write_samples(rendered, 4, (240, 180), seed, 1)
        for part in ("images", "masks"):
            (folder / split / part).mkdir(parents=True)
            for index, path in enumerate(sorted((rendered / part).iterdir())):
                path.rename(folder / split / part / f"{drives[index % len(drives)]}_{path.name}")
        for path in (folder / split / "masks").iterdir():
            mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(path), np.where(mask == VOID, CAMVID_VOID, mask).astype(np.uint8))


def make_environment(folder: Path) -> Path:
    """Make a virtual environment that also finds the packages of the tests; return the folder of its executables."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "packages_of_the_tests.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    pip = folder / "bin" / "pip"
    pip.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m pip "$@"\n', encoding="utf-8")
    pip.chmod(0o755)
    return folder / "bin"


def environment_of(blocks: list[Block], checkout: Path, watch: TelemetryWatch) -> dict[str, str]:
    """Return the environment variables for blocks; a block that installs the package uses what it installed."""
    variables = watch.environment | {"PYTHONPATH": str(checkout)}
    executables = Path(sys.executable).parent
    if any(command.startswith("pip install") for block in blocks for command in block.commands()):
        executables = make_environment(checkout.parent / "environment")
        # The packages of the tests include every requirement, so nothing is downloaded. For pip, 0 means no isolation.
        variables |= {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
        del variables["PYTHONPATH"]
    return variables | {"PATH": f"{executables}{os.pathsep}{os.environ['PATH']}"}


def run_pages(first: str, folder: Path, watch: TelemetryWatch) -> list[str]:
    """Run the blocks of a page and of the pages that continue it; return a report on each block that failed."""
    checkout = clone(folder / "clone")
    if first == CAMVID_PAGE:
        write_camvid_stand_in(checkout / "data" / "camvid")
    pages = [first, *(page for page, before in GOES_ON_FROM.items() if before == first)]
    blocks = [block for page in pages for block in BLOCKS if block.page == page and not block.reason]
    environment = environment_of(blocks, checkout, watch)
    return [report for block in blocks if (report := run_block(block, checkout, environment))]


def run_block(block: Block, checkout: Path, environment: dict[str, str]) -> str:
    """Run a block. Return an empty text, or the block and its output if it failed."""
    log = checkout.parent / f"{block.line}.log"
    with log.open("wb") as output:
        done = subprocess.run(
            [*INTERPRETERS[block.language], "-c", block.script()],
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=BLOCK_TIMEOUT_S,
            check=False,
        )
    if done.returncode == 0:
        return ""
    printed = log.read_text(errors="replace")
    return f"{block.page}:{block.line} ended with {done.returncode}\n{block.script()}\n{printed[-3000:]}"


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> TelemetryWatch:
    return TelemetryWatch(tmp_path_factory.mktemp("watch"))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, watch: TelemetryWatch) -> Iterator[dict[str, Future[list[str]]]]:
    with ThreadPoolExecutor(CLONES_AT_A_TIME) as pool:
        yield {
            page: pool.submit(run_pages, page, tmp_path_factory.mktemp("page"), watch)
            for page in sorted(FIRST_PAGES, key=lambda page: page != CAMVID_PAGE)  # the longest first
        }


@pytest.mark.slow
@pytest.mark.parametrize("first", FIRST_PAGES)
def test_blocks_of_a_page_run_in_order(first: str, reports: dict[str, Future[list[str]]]) -> None:
    failed = reports[first].result()
    assert not failed, "\n\n".join(failed)


@pytest.mark.slow
def test_what_they_run_sends_no_telemetry(reports: dict[str, Future[list[str]]], watch: TelemetryWatch) -> None:
    """The blocks include training, evaluation, export and replay."""
    for report in reports.values():
        report.result()
    assert watch.files() == []
    assert not [name for name in watch.lookups() if name.endswith("microsoft.com")]


def test_blocks_that_are_not_run_are_listed_with_their_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    left_out = [block for block in BLOCKS if block.reason]
    with capsys.disabled():
        print(f"\n{len(BLOCKS) - len(left_out)} blocks of the documentation are run, {len(left_out)} are not:")
        for block in left_out:
            print(f"  {block.page}:{block.line}: {block.reason}")
    assert all(len(block.reason.split()) >= REASON_WORDS_MIN for block in left_out)


@pytest.mark.parametrize("block", [block for block in BLOCKS if not block.reason], ids=lambda b: f"{b.page}:{b.line}")
def test_a_block_that_is_run_hides_no_failure_and_uses_all_of_its_marker(block: Block) -> None:
    for command in block.commands():
        assert not {"&&", "||", ";", "&"} & set(command.split()), f"{command}: a failure goes unnoticed; use lines"
    for part in block.options:
        assert any(part in command for command in block.commands()), f"no command contains '{part}'"


def test_no_two_blocks_write_the_same() -> None:
    written = Counter(
        value
        for block in BLOCKS
        for command in block.commands()
        for option, value in itertools.pairwise(shlex.split(command))
        if not block.reason and option in OUTPUT_OPTIONS
    )
    assert written
    assert not [name for name, count in written.items() if count > 1], "a reader who pastes both is refused"


def test_no_two_runs_of_training_have_the_same_name() -> None:
    runs = Counter(run_name(shlex.split(command)) for block in BLOCKS for command in block.commands())
    assert runs["student_s_rendered"] == 1
    assert not [name for name, count in runs.items() if name and count > 1], "a reader who pastes both is refused"


def run_name(words: list[str]) -> str:
    """Return the name of the run that a command starts; empty if it starts no new run."""
    if words[:4] != ["python", "-m", "training", "train"] or "--resume" in words:
        return ""
    named = [word.removeprefix("name=") for word in words if word.startswith("name=")]
    return named[0] if named else Path(words[4]).stem


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_seen_and_every_comment_is_a_marker(page: Path) -> None:
    content = page.read_text(encoding="utf-8")
    blocks = list(blocks_of(page))
    fences = [line.strip() for line in content.splitlines() if line.lstrip().startswith(("```", "~~~"))]
    assert len(blocks) == fences.count("```bash") + fences.count("```python")
    others = {"```yaml", "```json", "```cpp", "```mermaid"}
    assert set(fences) <= {"```", "```bash", "```python"} | others, "a shell's block is ```bash"
    assert stray_comments(page) == []


@pytest.mark.parametrize(
    "marker",
    [
        f"<!-- {NOT_RUN} -->",
        f"<!-- {NOT_RUN} slow -->",
        "<!-- not run in test: needs a ROS install -->",
        f"<!-- {SHORTENED} make it quick -->",
    ],
)
def test_a_marker_without_a_reason_or_in_another_form_is_refused(marker: str) -> None:
    with pytest.raises(ValueError, match="page:4: expected"):
        list(blocks_in(f"text\n\n{marker}\n```bash\nls\n```\n", "page"))


def test_options_are_appended_to_the_commands_that_they_are_for() -> None:
    text = f"<!-- {SHORTENED}\ntrain: --short 1\n-->\n```bash\ntrain a \\\n  --b  # c\nrun d  # train\n  e\n```\n"
    (block,) = blocks_in(text, "page")
    assert block.script() == "train a    --b --short 1  # c\nrun d  # train\n  e"
    assert block.commands() == ["train a    --b", "run d", "e"]
