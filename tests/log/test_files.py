"""The file layer: one contract for every implementation, and what only a disk can do."""

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from logbroker.errors import DataDirectoryError, DiskFull, StorageError
from logbroker.log.files import Files, disk, make_dirs, replace_atomically
from logbroker.log.files.disk import DiskFiles
from tests.log.helpers import read_bytes

# -- every implementation --------------------------------------------------------------------------------------------


def test_what_is_appended_in_parts_is_read_back_as_one(files: Files) -> None:
    file = files.create("a")
    file.append([b"one", bytearray(b"two"), memoryview(b"three")])
    file.append([b"", b"four"])
    assert file.size() == 15
    assert file.pread(100, 0) == b"onetwothreefour"
    assert file.pread(3, 3) == b"two"
    assert file.pread(3, 100) == b""
    assert bytes(file.pread_cached(4, 11) or b"") == b"four"


def test_more_parts_than_one_system_call_takes_are_written_whole(files: Files) -> None:
    parts = [bytes([number % 256]) * 3 for number in range(3000)]
    file = files.create("a")
    file.append(parts)
    assert file.pread(9000, 0) == b"".join(parts)


def test_overwriting_keeps_what_stands_around_it(files: Files) -> None:
    file = files.create("a")
    file.append([b"0123456789"])
    file.pwrite(b"abc", 4)
    file.pwrite(b"xy", 9)
    assert file.pread(100, 0) == b"0123abc78xy"
    assert file.size() == 11


def test_a_file_is_cut_and_extended_with_zeros(files: Files) -> None:
    file = files.create("a")
    file.append([b"0123456789"])
    file.truncate(3)
    file.append([b"x"])
    file.allocate(6)
    assert file.pread(100, 0) == b"012x\0\0"
    file.allocate(2)
    assert file.size() == files.size("a") == 6


def test_a_map_shows_the_file_and_changes_it(files: Files) -> None:
    file = files.create("a")
    file.allocate(8)
    mapping = file.map(writable=True)
    mapping.write(2, b"ab")
    assert bytes(mapping.view) == b"\0\0ab\0\0\0\0"
    assert file.pread(8, 0) == b"\0\0ab\0\0\0\0"


def test_a_view_outlives_growth_removal_and_closing(files: Files) -> None:
    file = files.create("a")
    file.append([b"content"])
    view = file.map().view
    file.append([b" and more"])
    files.unlink("a")
    file.close()
    assert bytes(view) == b"content"
    assert view.readonly


def test_two_open_files_show_the_same_content(files: Files) -> None:
    one = files.create("a")
    other = files.open("a")
    one.append([b"x"])
    assert other.pread(1, 0) == b"x"


def test_names_are_listed_renamed_and_removed(files: Files) -> None:
    make_dirs(files, "d/e")
    for name in ("b", "a"):
        files.create(f"d/{name}").append([name.encode()])
    assert files.listdir("d") == ["a", "b", "e"]
    files.rename("d/b", "d/a")
    assert files.listdir("d") == ["a", "e"]
    assert read_bytes(files, "d/a") == b"b"
    files.unlink("d/a")
    assert not files.exists("d/a")
    files.create("d/e/deep")
    files.rmtree("d")
    assert files.listdir("") == []
    files.sync_dir("")


@pytest.mark.parametrize(
    ("what", "call"),
    [
        ("open a missing file", lambda files: files.open("missing")),
        ("create a file twice", lambda files: files.create("there")),
        ("create below nothing", lambda files: files.create("no/file")),
        ("list nothing", lambda files: files.listdir("no")),
        ("measure nothing", lambda files: files.size("no")),
        ("make a directory twice", lambda files: files.mkdir("dir")),
        ("make a directory below nothing", lambda files: files.mkdir("no/dir")),
        ("rename nothing", lambda files: files.rename("no", "other")),
        ("remove nothing", lambda files: files.unlink("no")),
        ("remove no directory", lambda files: files.rmtree("no")),
        ("flush no directory", lambda files: files.sync_dir("no")),
        ("map an empty file", lambda files: files.open("there").map()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_is_a_storage_error(files: Files, what: str, call: object) -> None:
    files.create("there")
    files.mkdir("dir")
    assert callable(call)
    with pytest.raises(StorageError):
        call(files)


def test_an_atomic_replacement_leaves_no_trace(files: Files) -> None:
    replace_atomically(files, "state", b"old")
    files.create("state.tmp").append([b"left by a crash"])
    replace_atomically(files, "state", b"new")
    assert read_bytes(files, "state") == b"new"
    assert files.listdir("") == ["state"]


def test_a_lock_is_held_once_and_can_be_taken_again(files: Files) -> None:
    lock = files.lock("lock")
    with pytest.raises(DataDirectoryError, match=str(os.getpid())):
        files.lock("lock")
    lock.release()
    files.lock("lock").release()


def test_free_space_is_known(files: Files) -> None:
    assert files.free_bytes() > 0


# -- a disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path: Path) -> DiskFiles:
    return DiskFiles(tmp_path)


class Writes:
    """Stands in for ``os.pwritev`` and ``os.pwrite``: writes at most so much at once, fails when the disk is full."""

    def __init__(self, at_most: int, space: int, error: int = errno.ENOSPC) -> None:
        self._at_most, self._space, self._error = at_most, space, error
        self._pwrite = os.pwrite

    def pwritev(self, descriptor: int, parts: Sequence[bytes], position: int) -> int:
        return self.pwrite(descriptor, b"".join(parts), position)

    def pwrite(self, descriptor: int, data: bytes, position: int) -> int:
        size = min(len(data), self._at_most, self._space)
        if not size:
            raise OSError(self._error, os.strerror(self._error))
        self._space -= size
        return self._pwrite(descriptor, data[:size], position)


def limit_writes(monkeypatch: pytest.MonkeyPatch, writes: Writes) -> None:
    monkeypatch.setattr(os, "pwritev", writes.pwritev)
    monkeypatch.setattr(os, "pwrite", writes.pwrite)


def test_short_writes_are_completed(on_disk: DiskFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    file = on_disk.create("a")
    limit_writes(monkeypatch, Writes(at_most=7, space=10_000))
    file.append([b"x" * 10, b"y" * 100])
    assert read_bytes(on_disk, "a") == b"x" * 10 + b"y" * 100


@pytest.mark.parametrize(("error", "kind"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, StorageError)])
def test_a_write_that_fails_half_way_leaves_the_file_as_it_was(
    on_disk: DiskFiles, monkeypatch: pytest.MonkeyPatch, error: int, kind: type[StorageError]
) -> None:
    file = on_disk.create("a")
    file.append([b"before"])
    with monkeypatch.context() as patch:
        limit_writes(patch, Writes(at_most=7, space=50, error=error))
        with pytest.raises(StorageError) as raised:
            file.append([b"x" * 100])
    assert type(raised.value) is kind
    assert "a" in raised.value.detail
    assert read_bytes(on_disk, "a") == b"before"
    file.append([b" after"])
    assert read_bytes(on_disk, "a") == b"before after"


def test_without_the_newer_system_calls_the_promises_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_NOWAIT", None)
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    file = DiskFiles(tmp_path).create("a")
    file.append([b"abc"])
    file.allocate(100_000)
    assert file.size() == 100_000
    assert bytes(file.pread_cached(5, 0) or b"") == b"abc\0\0"


def test_directories_and_files_are_for_their_owner_alone(on_disk: DiskFiles, tmp_path: Path) -> None:
    make_dirs(on_disk, "d")
    on_disk.create("d/a")
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "d" / "a").stat().st_mode & 0o777 == 0o600


def test_closing_is_left_to_the_last_who_uses_a_file(on_disk: DiskFiles) -> None:
    file = on_disk.create("a")
    descriptor = file._descriptor
    same = file
    del file
    same.append([b"x"])
    del same
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_another_process_is_told_who_holds_the_data_directory(on_disk: DiskFiles, tmp_path: Path) -> None:
    lock = on_disk.lock("lock")
    program = f"from logbroker.log.files.disk import DiskFiles; DiskFiles({str(tmp_path)!r}).lock('lock')"
    refused = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert f"in use by the process with id {os.getpid()}" in refused.stderr
    lock.release()
    subprocess.run([sys.executable, "-c", program], check=True)
