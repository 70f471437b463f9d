"""Every ```bash block of the documentation runs in a fresh clone, page by page, as a reader would paste it.

Each page has a clone of its own, and its blocks run there in order, each in a shell that ends at the first command that
fails. The pages run side by side. What is not run is listed with its reason; `doc_blocks` has the markers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from checkout import ROOT
from doc_blocks import NOT_RUN, PAGES, REASON_WORDS_MIN, SHORTENED, Block, blocks_in, blocks_of, stray_comments
from telemetry_watch import TelemetryWatch

from ros_kd_perception.sample_drive.training_samples import write_samples

BLOCK_TIMEOUT_S = 600.0  # of a busy machine's time
PAGES_AT_A_TIME = 2
CAMVID_VOID, VOID = 11, 255
CAMVID_PAGE = "docs/training.md"
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PAGES_THAT_RUN = sorted({block.page for block in BLOCKS if not block.reason})

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a copy of the sources that cannot be cloned")


def clone(destination: Path) -> Path:
    """A fresh clone of the checkout, with the changes to tracked files that are not committed yet."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(destination)], check=True)
    changes = subprocess.run(["git", "diff", "HEAD", "--binary"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["git", "apply", "--allow-empty"], cwd=destination, input=changes, check=True)
    return destination


def write_camvid_stand_in(folder: Path) -> None:
    """Rendered frames in CamVid's layout and ids, where `docs/training.md` has a reader put CamVid."""
    for split, seed in (("train", 5), ("val", 6)):
        rendered = folder.parent / split
        write_samples(rendered, 4, (240, 180), seed, 1)
        (folder / split).mkdir(parents=True)
        shutil.move(rendered / "images", folder / split / "images")
        shutil.move(rendered / "masks", folder / split / "masks")
        for path in (folder / split / "masks").iterdir():
            mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(path), np.where(mask == VOID, CAMVID_VOID, mask).astype(np.uint8))


def run_page(page: str, folder: Path, watch: TelemetryWatch) -> list[str]:
    """Run the blocks of a page; returns a report on each that failed."""
    checkout = clone(folder / "clone")
    if page == CAMVID_PAGE:
        write_camvid_stand_in(checkout / "data" / "camvid")
    executables = Path(sys.executable).parent
    environment = watch.environment | {
        "PATH": f"{executables}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(checkout),
    }
    return [
        report
        for block in BLOCKS
        if block.page == page and not block.reason and (report := run_block(block, checkout, environment))
    ]


def run_block(block: Block, checkout: Path, environment: dict[str, str]) -> str:
    """Empty, or what was run and what it said where it failed."""
    log = checkout.parent / f"{block.line}.log"
    with log.open("wb") as output:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", block.script()],
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
    said = log.read_text(errors="replace")
    return f"{block.page}:{block.line} ended with {done.returncode}\n{block.script()}\n{said[-3000:]}"


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> TelemetryWatch:
    return TelemetryWatch(tmp_path_factory.mktemp("watch"))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, watch: TelemetryWatch) -> Iterator[dict[str, Future[list[str]]]]:
    with ThreadPoolExecutor(PAGES_AT_A_TIME) as pool:
        yield {
            page: pool.submit(run_page, page, tmp_path_factory.mktemp("page"), watch)
            for page in sorted(PAGES_THAT_RUN, key=lambda page: page != CAMVID_PAGE)  # the longest first
        }


@pytest.mark.parametrize("page", PAGES_THAT_RUN)
def test_blocks_of_a_page_run_in_order(page: str, reports: dict[str, Future[list[str]]]) -> None:
    failed = reports[page].result()
    assert not failed, "\n\n".join(failed)


def test_what_they_run_sends_no_telemetry(reports: dict[str, Future[list[str]]], watch: TelemetryWatch) -> None:
    """Training, evaluation, export and replay, among others."""
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
        assert not {"&&", "||", ";", "&"} & set(command.split()), f"{command}: a shell goes on after it; use lines"
    for part in block.options:
        assert any(part in command for command in block.commands()), f"no command contains '{part}'"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_seen_and_every_comment_is_a_marker(page: Path) -> None:
    content = page.read_text(encoding="utf-8")
    blocks = list(blocks_of(page))
    fences = [line.strip() for line in content.splitlines() if line.lstrip().startswith(("```", "~~~"))]
    assert len(blocks) == fences.count("```bash")
    assert set(fences) <= {"```", "```bash", "```python", "```yaml", "```json", "```cpp"}, "a shell's block is ```bash"
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
