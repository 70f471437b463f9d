"""Puts `support/` on the path, so that tests of every folder can import what is in it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Wall-clock limits fail on a machine that is busy with something else; what must be quick has a benchmark.
settings.register_profile("any_machine", deadline=None)
settings.load_profile("any_machine")

sys.path.insert(0, str(Path(__file__).parent / "support"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--malformed-messages",
        type=int,
        default=0,
        metavar="N",
        help="malformed messages that hypothesis and the publisher on the graph make; without it a few thousand",
    )


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Models that pass here are not remembered among the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
