"""The ```bash and ```python blocks of the documentation, and the markers that say how the tests treat them.

Tests run a block as it stands. A comment right above it says otherwise, in one of two forms:

    <!-- not run in tests: REASON -->

    <!-- shortened in tests:
    PART OF A COMMAND: OPTIONS
    ANOTHER PART: OPTIONS
    -->

The second form appends the options to each command of the block that contains the part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from checkout import ROOT

PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "QUALITY_DECLARATION.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "models" / "README.md",
)
NOT_RUN, SHORTENED = "not run in tests:", "shortened in tests:"
REASON_WORDS_MIN = 3
_COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
_BLOCK = re.compile(
    r"(?: *<!--(?P<marker>(?:(?!-->).)*)-->\n)? *```(?P<language>bash|python)\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
_HERE_DOCUMENT = re.compile(r"<< '(\w+)'\n.*?^\1$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One ```bash or ```python block.

    Attributes:
        page: Path from the root of the checkout.
        line: Line of the opening fence, from 1.
        language: bash or python.
        text: The text between the fences.
        reason: Why the tests do not run it; empty = they run it.
        options: Options by part of a command; they are appended to the commands that contain the part.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str
    options: dict[str, str]

    def commands(self) -> list[str]:
        """Return the commands of a shell block, without comments and here documents; nothing for a python block."""
        if self.language == "python":
            return []
        text = _HERE_DOCUMENT.sub("", self.text).replace("\\\n", " ")
        lines = (line.partition("  #")[0].strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]

    def script(self) -> str:
        """Return the text for the interpreter, with the options of the marker appended."""
        if not self.options:
            return self.text
        return "\n".join(self._with_options(line) for line in self.text.replace("\\\n", " ").splitlines())

    def _with_options(self, line: str) -> str:
        command, comment, rest = line.partition("  #")
        appended = (options for part, options in self.options.items() if part in command)
        return " ".join([command, *appended]) + comment + rest


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page, in order.

    Raises:
        ValueError: A marker has neither form, or gives no reason.
    """
    return blocks_in(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)))


def blocks_in(content: str, name: str) -> Iterator[Block]:
    """Yield the blocks of a page's text; see `blocks_of`."""
    for found in _BLOCK.finditer(content):
        line = content.count("\n", 0, found.start("text"))
        yield Block(
            name, line, found["language"], found["text"], *_read_marker(found["marker"] or "", f"{name}:{line}")
        )


def stray_comments(page: Path) -> list[str]:
    """Return the comments of a page that are not above a block, because a marker there would have no effect."""
    content = page.read_text(encoding="utf-8")
    markers = {found["marker"] for found in _BLOCK.finditer(content)}
    return [text.strip() for text in _COMMENT.findall(content) if text not in markers]


def _read_marker(marker: str, where: str) -> tuple[str, dict[str, str]]:
    marker = marker.strip()
    if not marker:
        return "", {}
    if marker.startswith(NOT_RUN):
        reason = " ".join(marker.removeprefix(NOT_RUN).split())
        if len(reason.split()) < REASON_WORDS_MIN:
            raise ValueError(f"{where}: expected a reason after '{NOT_RUN}', got '{reason}'; say what the block needs")
        return reason, {}
    if not marker.startswith(SHORTENED):
        raise ValueError(f"{where}: expected '{NOT_RUN} REASON' or '{SHORTENED} ...', got '{marker}'")
    options = {}
    for line in marker.removeprefix(SHORTENED).replace("\\\n", " ").strip().splitlines():
        part, separator, appended = line.partition(": ")
        if not separator:
            raise ValueError(f"{where}: expected 'PART OF A COMMAND: OPTIONS' in the marker, got '{line}'")
        options[part.strip()] = " ".join(appended.split())
    return "", options
