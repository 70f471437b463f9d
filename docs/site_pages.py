"""Hooks of MkDocs: put the files of the checkout into the site at their own paths, so that links work in both.

MkDocs takes its pages from one folder, but a forge shows README, CONTRIBUTING and the model card where they stand in
the checkout. These hooks add them under the same paths. They also add the files that pages link to, such as recipes,
one page of API reference for each package, and the script that draws diagrams.
"""

from __future__ import annotations

import posixpath
import re
from importlib.resources import files as files_of
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES_OUTSIDE_DOCS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "QUALITY_DECLARATION.md", "models/README.md")
CHANGELOG = "CHANGELOG.rst"
MERMAID = "assets/javascripts/mermaid.js"
PACKAGES = ("ros_kd_perception", "training")
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
_RST_TITLE = re.compile(r"^\^+\n(.+)\n\^+$", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Append the API reference to the navigation: a section for each package, its own page first, then its wings."""
    sections = []
    for package in PACKAGES:
        wings = [{name.rpartition(".")[2]: _reference_page(name)} for name in _wings(package)]
        sections.append({package: [{package: _reference_page(package)}, *wings]})
    config.nav = [*(config.nav or []), {"API reference": sections}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files of the theme, the pages of the checkout, the files that these link to and the API reference."""
    docs = [file for file in files if file.src_dir == config.docs_dir]
    of_theme = [file for file in files if file.src_dir != config.docs_dir]
    paths = {*PAGES_OUTSIDE_DOCS, *[f"docs/{file.src_uri}" for file in docs]}
    for page in sorted(path for path in paths if path.endswith(".md")):
        paths |= _linked_files(page)
    of_checkout = [File.generated(config, path, abs_src_path=str(ROOT / path)) for path in sorted(paths)]
    changelog = File.generated(config, _path_in_site(CHANGELOG), content=_changelog_in_markdown())
    reference = [
        File.generated(config, _reference_page(name), content=content)
        for package in PACKAGES
        for name, content in _reference_of(package).items()
    ]
    mermaid = File.generated(config, MERMAID, abs_src_path=str(files_of("mermaidx") / "assets" / "mermaid.js"))
    return Files([*of_theme, *of_checkout, changelog, *reference, mermaid])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Change links to a package or to the changelog into links to their pages of the site."""

    def in_site(link: re.Match[str]) -> str:
        target = _path_in_site(_path_in_checkout(page.file.src_uri, link["path"]))
        return posixpath.relpath(target, posixpath.dirname(page.file.src_uri)) + (link["anchor"] or "")

    return _LINK.sub(in_site, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Load mermaid.js from the site on pages with diagrams; the theme would fetch it from another server."""
    if 'class="mermaid"' not in html:
        return html
    return f'<script src="{posixpath.relpath(MERMAID, posixpath.dirname(page.file.dest_uri))}"></script>\n{html}'


def _wings(package: str) -> list[str]:
    """Return the dotted names of the packages right below a package."""
    return [f"{package}.{path.parent.name}" for path in sorted((ROOT / package).glob("*/__init__.py"))]


def _reference_of(package: str) -> dict[str, str]:
    """Return the dotted name of each page of a package's reference, with the directives that mkdocstrings expands."""
    modules = [path.stem for path in sorted((ROOT / package).glob("*.py")) if not path.stem.startswith("__")]
    own_page = [f"::: {package}\n    options: {{show_submodules: false}}\n"]
    own_page += [f"::: {package}.{module}\n    options: {{heading_level: 2}}\n" for module in modules]
    return {package: "\n".join(own_page), **{name: f"::: {name}\n" for name in _wings(package)}}


def _reference_page(name: str) -> str:
    return f"reference/{name}.md"


def _path_in_site(path: str) -> str:
    """Return the path in the site that stands for a path of the checkout; most paths are the same."""
    if path == CHANGELOG:
        return "CHANGELOG.md"
    if (ROOT / path / "__init__.py").is_file():
        return _reference_page(path.replace("/", "."))
    return path


def _path_in_checkout(page: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _linked_files(page: str) -> set[str]:
    """Return the files that a page links to and that are in the site under their own path."""
    links = _LINK.finditer((ROOT / page).read_text(encoding="utf-8"))
    paths = {_path_in_checkout(page, link["path"]) for link in links}
    return {path for path in paths if (ROOT / path).is_file() and _path_in_site(path) == path}


def _changelog_in_markdown() -> str:
    """Return the changelog with a Markdown title; Markdown and reStructuredText agree on the rest that it uses."""
    return _RST_TITLE.sub(r"# \1", (ROOT / CHANGELOG).read_text(encoding="utf-8"))
