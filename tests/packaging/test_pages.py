"""Every link between the Markdown pages leads to an existing file and, if it names one, to an existing heading.

The source tree of README.md names every folder.

The pages are read on a forge and on the documentation site. `make docs` checks the links of the site. These tests do
not need MkDocs, and they also find text that only one of the two would show wrongly.
"""

import re
from collections import Counter
from pathlib import Path

import pytest
from checkout import ROOT
from doc_blocks import PAGES

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINK = re.compile(r"\]\((?!\w+:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")
CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def prose_of(page: Path) -> str:
    """Return a page without its code, because brackets and number signs in code are not Markdown."""
    return CODE.sub("", page.read_text(encoding="utf-8"))


def anchors_of(page: Path) -> Counter[str]:
    """Return the anchors that a forge makes of the headings, with the number of times each occurs."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return Counter(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_and_headings(name: str) -> None:
    page = ROOT / name
    for link in LINK.finditer(prose_of(page)):
        target = page.parent / link["path"] if link["path"] else page
        assert target.exists(), f"{name} links to {link['path']}, which does not exist"
        assert ROOT in target.resolve().parents, f"{name} links to {link['path']}, outside of the checkout"
        if link["anchor"]:
            assert link["anchor"] in anchors_of(target), f"{name}: {link['path']} has no heading #{link['anchor']}"


@pytest.mark.parametrize("name", NAMES)
def test_each_heading_of_a_page_has_its_own_anchor(name: str) -> None:
    repeated = [anchor for anchor, count in anchors_of(ROOT / name).items() if count > 1]
    assert not repeated, f"{name}: a forge and the site number these headings differently: {repeated}"


@pytest.mark.parametrize("name", NAMES)
def test_forge_and_site_read_the_same_lists_and_tables(name: str) -> None:
    """The site (Python-Markdown) needs four spaces inside a list, and a blank line before lists and tables."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    in_code = False
    for number, (before, line) in enumerate(zip(["", *lines], lines, strict=False), start=1):
        if not in_code:
            assert not re.match(r" {1,3}(```|<!--|[-*] |\d+\. |\|)", line), f"{name}:{number}: indent by four spaces"
            starts_block = re.match(r"([-*] |1\. |\|)", line)
            goes_on = re.match(r"([-*] |\d+\. |\|| {2})", before)
            assert not starts_block or not before or goes_on, f"{name}:{number}: leave a blank line before"
        in_code ^= line.lstrip().startswith("```")


def test_the_source_tree_names_every_folder() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Source tree")[2]
    tree = section.split("```")[1]
    for package in ("ros_kd_perception", "training"):
        (below,) = re.findall(rf"^{package}/.*\n((?:  .*\n)+)", tree, re.MULTILINE)
        named = set(re.findall(r"^  (\w+)/", below, re.MULTILINE))
        folders = {path.name for path in (ROOT / package).iterdir() if path.is_dir() and path.name != "__pycache__"}
        assert named == folders, f"the source tree of README.md must name the folders of {package}/"
    for name in re.findall(r"^(\w+)/", tree, re.MULTILINE):
        assert (ROOT / name).is_dir(), f"README.md names {name}/, which does not exist"


def test_pages_are_found() -> None:
    assert {"README.md", "docs/vehicle.md", "docs/security.md"} <= set(NAMES)
    assert "checks-and-limits" in anchors_of(ROOT / "docs" / "security.md")
    assert "large-images-the-senders-settings" in anchors_of(ROOT / "docs" / "vehicle.md")
