"""Large JSON files, read part by part."""

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data import json_stream
from training.data.json_stream import stream_json
from training.errors import DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def parts_of(content: dict) -> list:
    return [(key, part) for key, value in content.items() for part in (value if isinstance(value, list) else [value])]


@settings(max_examples=60, deadline=None)
@given(content=st.dictionaries(st.text(max_size=6), VALUES, max_size=5), indent=st.sampled_from([None, 2]))
def test_any_object_is_read_whatever_the_windows_cut(tmp_path_factory, content: dict, indent: int | None):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=False), encoding="utf-8", errors="surrogatepass")
    for characters in (1, 3, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_stream, "_CHUNK_CHARACTERS", characters)
            assert list(stream_json(path)) == parts_of(content)


def test_a_large_file_needs_the_memory_of_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(json_stream, "_CHUNK_CHARACTERS", 1 << 14)
    path = tmp_path / "large.json"
    row = json.dumps({"id": 1, "segmentation": [[1.5] * 400]})
    path.write_text('{"annotations": [' + ",".join([row] * 1_000) + "]}")
    tracemalloc.start()
    try:
        assert sum(1 for _ in stream_json(path)) == 1_000
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 10
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "expected '{' at character 0, got the end of the file"),
        ("[]", r"expected '\{' at character 0, got '\['"),
        ('{"a": [1, 2', "expected ',' at character 11, got the end of the file"),
        ('{"a": [1 2]}', "expected ',' at character 9, got '2'"),
        ('{"a": {"b": }}', "Expecting value, in the value at character 6"),
        ('{"a": 1} {', "expected the end of the file at character 9"),
        ('{"a": 1, "a": 2}', "expected each key once, got 'a' a second time"),
        ('{"a": ' + "[" * 100_000, "expected one JSON object"),
        (b'{"a": "\xff"}', "in UTF-8"),
    ],
)
def test_what_is_not_a_json_object_is_refused(tmp_path: Path, text: str | bytes, sentence: str):
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=sentence) as error:
        list(stream_json(path))
    assert str(error.value).startswith(f"{path}: ")


def test_sizes_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.json"
    path.write_text('{"a": [' + '"' + "x" * 5000)
    monkeypatch.setattr(json_stream, "_CHUNK_CHARACTERS", 10)
    monkeypatch.setattr(json_stream, "MAX_PART_CHARACTERS", 100)
    with pytest.raises(DataError, match="expected a whole value of at most 100 characters at character 7"):
        list(stream_json(path))
    monkeypatch.setattr(json_stream, "MAX_FILE_BYTES", 1000)
    with pytest.raises(DataError, match="expected at most 1000 bytes, got 5008; split it"):
        list(stream_json(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"none.json: expected one JSON object .*No such file"):
        list(stream_json(tmp_path / "none.json"))
