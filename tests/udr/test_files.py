"""Files and folders that are complete or absent."""

from pathlib import Path

import pytest

from udr.files import canonical_json, sha256, whole_folder, write_atomically


def test_write_atomically_keeps_the_old_file_if_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(stream: object) -> None:
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"

    write_atomically(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert sha256(path) == "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"


def test_canonical_json_sorts_keys_and_rejects_nan() -> None:
    assert canonical_json({"b": [1, 0.5, None], "a": "é"}) == '{"a":"é","b":[1,0.5,null]}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_a_folder_is_complete_or_absent(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with pytest.raises(KeyboardInterrupt), whole_folder(folder) as staging:
        (staging / "half").touch()
        raise KeyboardInterrupt
    assert not folder.exists()
    with whole_folder(folder) as staging:
        assert list(staging.iterdir()) == []
        (staging / "whole").touch()
        assert not folder.exists()
    assert [path.name for path in folder.iterdir()] == ["whole"]
    assert list(tmp_path.iterdir()) == [folder]
