from __future__ import annotations

import os

import pytest

from ner import files


def partials(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_file_is_replaced_whole_and_its_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b.txt"
    files.write(path, "old é")
    files.write(path, b"new")
    assert path.read_bytes() == b"new" and partials(path.parent) == []


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "x"
    files.write(path, "old")
    with pytest.raises(RuntimeError), files.replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x"]


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    files.write(link, "new")
    assert link.is_symlink() and target.read_text() == "new"


def test_a_device_is_written_to_and_a_folder_refused(tmp_path):
    files.write("/dev/null", "x")
    assert not os.path.isfile("/dev/null")
    with pytest.raises(IsADirectoryError):
        files.write(tmp_path, "x")


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "model"
    for content in ("old", "new"):
        with files.replacing_folder(folder) as partial:
            (partial / "file").write_text(content)
            assert partial.parent == folder.parent
    assert (folder / "file").read_text() == "new" and os.listdir(tmp_path) == ["model"]


def test_an_error_keeps_the_old_folder(tmp_path):
    folder = tmp_path / "model"
    with files.replacing_folder(folder) as partial:
        (partial / "file").write_text("old")
    with pytest.raises(RuntimeError), files.replacing_folder(folder) as partial:
        raise RuntimeError
    assert (folder / "file").read_text() == "old"
