"""Markers, turns and caches of all tests. Puts `support/` on the path, so that tests in every folder can import it."""

import sys
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "support"))

from markers import count_markers, left_out, mark_by_folder
from turns import turn

# Wall-clock limits fail on a busy machine. Benchmarks measure what must be quick.
settings.register_profile("any_machine", deadline=None)
settings.load_profile("any_machine")

LEFT_OUT = pytest.StashKey[Mapping[str, int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--malformed-messages",
        type=int,
        default=0,
        metavar="N",
        help="malformed messages that hypothesis and the publisher on the graph make; without it a few thousand",
    )


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_by_folder(items)
    items.sort(key=lambda item: item.get_closest_marker("alone") is None)  # first, while no worker waits for long


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    if items:
        config = items[0].config
        config.stash[LEFT_OUT] = Counter(config.stash.get(LEFT_OUT, {})) + count_markers(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if not _is_worker(item.config):
        return (yield)
    with turn(Path(item.config.option.basetemp).parent, alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _is_worker(session.config):
        session.config.workeroutput["left_out"] = dict(session.config.stash.get(LEFT_OUT, {}))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the counts of a worker. All workers collect the same tests; a worker that crashed has no output."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if line := left_out(config.stash.get(LEFT_OUT, {})):
        terminalreporter.write_line(line)


def _is_worker(config: pytest.Config) -> bool:
    """Return whether this process is a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


@pytest.fixture(autouse=True)
def _unhindered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count no lines in the processes that a test starts to measure time or load."""
    if request.node.get_closest_marker("alone") is not None:
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep models that pass in the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
