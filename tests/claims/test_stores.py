"""Stores of payloads, in a folder and in whatever else fsspec speaks to."""

import hashlib
import uuid
from pathlib import Path

import pytest

from logbroker.claims.reference import Claim
from logbroker.claims.stores import CHUNK, Store
from logbroker.errors import (
    ClaimInvalid,
    InvalidConfig,
    MessageTooLarge,
    ObjectAltered,
    ObjectNotFound,
    StorageError,
)

MIB = 1 << 20


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store("local", str(tmp_path / "objects") if request.param == "folder" else f"memory://{uuid.uuid4().hex}")


def kept(store: Store, *chunks: bytes, max_bytes: int = 100 * MIB) -> Claim:
    upload = store.begin(max_bytes)
    for chunk in chunks:
        upload.write(chunk)
    return upload.commit()


def file_of(tmp_path: Path, claim: Claim) -> Path:
    return tmp_path / "objects" / claim.id[:2] / claim.id


def test_a_payload_comes_back_as_it_went(store: Store) -> None:
    data = bytes(range(256)) * 8_000
    claim = kept(store, data, b"", b"end")
    assert claim == Claim("local", claim.id, len(data) + 3, hashlib.sha256(data + b"end").hexdigest())
    assert store.load(claim) == data + b"end"
    assert max(map(len, store.chunks(claim.id))) <= CHUNK
    assert store.size(claim.id) == claim.size
    assert [one.id for one in store.list()] == [claim.id]


def test_an_empty_payload_is_one(store: Store) -> None:
    assert store.load(kept(store)) == b""
    assert store.load(store.put(b"whole", 5)) == b"whole"


def test_a_payload_that_is_not_there_or_was_deleted_is_said_to_be_missing(store: Store) -> None:
    with pytest.raises(ObjectNotFound, match="no object abab"):
        store.load(Claim("local", "ab" * 16, 1, "cd" * 32))
    claim = kept(store, b"x")
    store.delete(claim.id)
    store.delete(claim.id)
    with pytest.raises(ObjectNotFound):
        store.size(claim.id)
    assert store.list() == []


@pytest.mark.parametrize("changed", [b"Hello", b"hell", b"hello!", b""])
def test_a_payload_that_was_altered_is_found_out(tmp_path: Path, changed: bytes) -> None:
    store = Store("local", str(tmp_path / "objects"))
    claim = kept(store, b"hello")
    file_of(tmp_path, claim).write_bytes(changed)
    with pytest.raises(ObjectAltered, match="not what was stored"):
        store.load(claim)


def test_an_upload_that_is_too_large_or_given_up_leaves_nothing(store: Store) -> None:
    upload = store.begin(4)
    upload.write(b"1234")
    with pytest.raises(MessageTooLarge, match="claim_max_bytes = 4"):
        upload.write(b"5")
    upload.abort()
    assert store.list() == []


def test_an_unfinished_upload_is_told_apart_from_an_object(tmp_path: Path) -> None:
    store = Store("local", str(tmp_path / "objects"))
    store.begin(10).write(b"half")
    [found] = store.list()
    assert not found.is_finished
    store.delete(found.id, is_finished=False)
    assert store.list() == []


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    store = Store("local", str(tmp_path / "objects"))
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "README").write_text("mine")
    assert store.list() == []


@pytest.mark.parametrize("object_id", ["../../etc/passwd", "", "a" * 31, "/etc/passwd", "A" * 32])
def test_hostile_ids_open_nothing(store: Store, object_id: str) -> None:
    with pytest.raises(ClaimInvalid):
        store.size(object_id)
    with pytest.raises(ClaimInvalid):
        next(store.chunks(object_id))
    with pytest.raises(ClaimInvalid):
        store.delete(object_id)


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="store 'local' cannot be written"):
        Store("local", str(tmp_path / "objects")).begin(1)


def test_a_protocol_that_nobody_speaks_is_refused_by_name() -> None:
    with pytest.raises(InvalidConfig, match="store 'far' cannot be at 'nosuch://x'"):
        Store("far", "nosuch://x")
