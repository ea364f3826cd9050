from __future__ import annotations

import os
import tempfile

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


def test_a_linked_folder_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "disk")
    for content in ("old", "new"):
        with files.replacing_folder(tmp_path / "model") as partial:
            (partial / "file").write_text(content)
    assert (tmp_path / "model").is_symlink() and (tmp_path / "disk" / "file").read_text() == "new"


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    with files.replacing_folder(folder) as partial:
        (partial / "file").write_text("old")
    rename = os.rename

    def killed(source, target):
        if ".partial" in str(source):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt), files.replacing_folder(folder):
        pass
    monkeypatch.undo()
    assert not folder.exists()
    files.recover_folder(folder)
    assert (folder / "file").read_text() == "old"


def test_a_replaced_file_keeps_its_mode(tmp_path):
    path = tmp_path / "private"
    path.write_text("old")
    path.chmod(0o600)
    files.write(path, "new")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_pipe_gets_the_content(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write(tmp_path / "pipe", "text")
    assert os.read(reader, 10) == b"text" and not (tmp_path / "pipe").is_file()
    os.close(reader)


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no /dev/shm to write to")
def test_an_ordinary_file_in_dev_is_replaced():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for content in ("old", "new"):
            files.write(f"{folder}/scores.json", content)
        with open(f"{folder}/scores.json") as file:
            assert file.read() == "new"


def test_the_name_of_an_open_file_is_written_to(tmp_path):
    """As with `evaluate.py --json /dev/stdout > all.txt`: what is printed afterwards must reach the same file."""
    with open(tmp_path / "all.txt", "wb", buffering=0) as file:
        name = f"/proc/self/fd/{file.fileno()}"
        files.write(name, "report\n")
        file.seek(0, os.SEEK_END)
        file.write(b"after\n")
    assert (tmp_path / "all.txt").read_text() == "report\nafter\n"
