"""``logbroker backup`` and ``logbroker restore`` as commands: options, and where the files come from."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.http_client import HttpClient, path
from logbroker.cli.output import note, print_item, progress
from logbroker.cli.storage import backup as form
from logbroker.cli.storage.places import data_dir_of
from logbroker.engine.datadir import CATALOG, LOCK, read_catalog
from logbroker.engine.frozen import FROZEN, FROZEN_DIR, FrozenFile, FrozenList
from logbroker.errors import DataDirectoryError
from logbroker.log.files.disk import DiskFiles

_NOT_OURS = (FROZEN_DIR, "repairs", LOCK, "reserve")


@contextmanager
def _told() -> Iterator[None]:
    """What the system refuses, as an error of ours."""
    try:
        yield
    except OSError as error:
        raise DataDirectoryError(f"{error.filename}: {error.strerror}") from None


@click.command("backup", cls=Command)
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--offline", is_flag=True, help="The broker is stopped: read its data directory.")
@pass_invocation
def backup(invocation: Invocation, destination: Path, offline: bool) -> None:
    """Copy all a broker holds, while it runs.

    The copy is of one moment, and a new directory in DESTINATION. This runs on the broker's machine. What the newest
    backup in DESTINATION has too is linked, not copied.
    """
    with _told(), _stopped(data_dir_of(invocation)) if offline else _frozen(invocation) as (source, listed):
        total = sum(one.size for one in listed.files)
        with progress(invocation, "bytes", total) as bar:
            files = [(one.path, one.size) for one in listed.files]
            outcome = form.back_up(source, files, listed.cluster_id, listed.created_ms, destination, bar.advance)
    print_item(invocation, msgspec.to_builtins(outcome))


@contextmanager
def _frozen(invocation: Invocation) -> Iterator[tuple[Path, FrozenList]]:
    """The files of a running broker as of now."""
    with HttpClient(invocation.url) as client:
        copy = client.request("POST", path("storage:freeze"))
        try:
            directory = Path(copy["directory"])
            if not directory.is_dir():
                raise DataDirectoryError(f"{directory} is not here: run the backup on the machine of {invocation.url}")
            yield directory, msgspec.json.decode((directory / FROZEN).read_bytes(), type=FrozenList)
        finally:
            client.request("DELETE", path("storage", "frozen", copy["id"]))


@contextmanager
def _stopped(data_dir: Path) -> Iterator[tuple[Path, FrozenList]]:
    """The files of a data directory that no broker has."""
    files = DiskFiles(data_dir)
    lock = files.lock(LOCK)
    try:
        catalog = read_catalog(files)
        if catalog is None:
            raise DataDirectoryError(f"{data_dir} holds no {CATALOG}, so it is no data directory of logbroker")
        listed = [
            FrozenFile(str(one.relative_to(data_dir)), one.stat().st_size)
            for one in sorted(data_dir.rglob("*"))
            if one.is_file() and one.relative_to(data_dir).parts[0] not in _NOT_OURS
        ]
        yield data_dir, FrozenList(catalog.cluster_id, time.time_ns() // 1_000_000, listed)
    finally:
        lock.release()


@click.command("restore", cls=Command)
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@pass_invocation
def restore(invocation: Invocation, source: Path) -> None:
    """Make a data directory from a backup.

    SOURCE is one backup, or the directory of several, of which the newest is taken. The data directory must be empty.
    Every byte is checked.
    """
    data_dir = data_dir_of(invocation)
    chosen = form.newest(source)
    if chosen is None:
        raise DataDirectoryError(f"{source} holds no backup that is whole")
    total = sum(one.size for one in form.read_manifest(chosen).files)
    with _told(), progress(invocation, "bytes", total) as bar:
        manifest = form.restore(chosen, data_dir, bar.advance)
    note(invocation, f"{chosen} is restored: start a broker with --data-dir {data_dir}")
    print_item(
        invocation,
        {"data_dir": str(data_dir), "backup": str(chosen), "files": len(manifest.files), "created_ms": manifest.created_ms},
    )
