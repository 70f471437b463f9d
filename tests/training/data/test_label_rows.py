"""Text files with one object a line."""

from pathlib import Path

import pytest

from training.data import label_rows
from training.data.label_rows import RowError, finite_numbers, read_rows
from training.errors import DataError


def test_rows_are_read_whatever_the_system_ended_its_lines_with(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf1 2\r\n\r\n 3\t4 \n")
    assert read_rows(path, finite_numbers) == [[1.0, 2.0], [3.0, 4.0]]


def test_every_wrong_line_counts_and_the_first_ones_are_named(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("1\nx\n2\nnan\n-inf\n\ny\nz\n")
    with pytest.raises(DataError) as error:
        read_rows(path, finite_numbers)
    sentence = str(error.value)
    assert sentence.startswith(f"{path}: line 2: expected numbers (could not convert")
    assert "line 4: expected finite numbers, got nan" in sentence
    assert sentence.endswith("line 5: expected finite numbers, got -inf; correct it | and 2 more lines")


def test_errors_that_are_not_about_a_line_are_not_swallowed(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("1\n")

    def parse(words: list[str]) -> None:
        raise KeyError(words[0])

    with pytest.raises(KeyError):
        read_rows(path, parse)
    with pytest.raises(RowError):
        finite_numbers(["1e999"])


@pytest.mark.parametrize(("content", "sentence"), [(b"\xff\xfe1", "in UTF-8"), (b"1" * 30, "larger than 20 bytes")])
def test_what_is_not_a_short_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, sentence: str
):
    monkeypatch.setattr(label_rows, "MAX_TEXT_BYTES", 20)
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_rows(path, finite_numbers)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"none.txt: expected a text file, there is no such file; add it"):
        read_rows(tmp_path / "none.txt", finite_numbers)
