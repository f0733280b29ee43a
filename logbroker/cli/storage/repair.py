"""``logbroker segment repair``: put right what can be, and pass or cut off what is lost, as an explicit act.

What lives here: options, the plan as rows, where the backup goes. What may not: the repair (``log.repair``).
Invariant: without ``--execute`` nothing is changed; with it, the data directory is held as a broker would hold it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from logbroker.cli import failures
from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.output import note, print_rows
from logbroker.cli.storage.places import PartitionPlace, data_dir_of, partitions
from logbroker.engine.datadir import LOCK
from logbroker.errors import InvalidRequest
from logbroker.log.files.disk import DiskFiles
from logbroker.log.mending import Mode
from logbroker.log.repair import RepairPlan, back_up, carry_out, plan_repair

Row = dict[str, Any]
_COLUMNS = ("partition", "action", "first_offset", "last_offset", "lost", "file", "position", "bytes", "why")


@click.command("repair", cls=Command)
@click.argument("target", required=False)
@click.option("--skip", "mode", flag_value="skip", help="Leave a gap where records are lost; readers go on behind it.")
@click.option("--truncate", "mode", flag_value="truncate", help="Cut the log where the first records are lost.")
@click.option("--execute", is_flag=True, help="Do it; otherwise only tell what would be done.")
@click.option("--backup", type=click.Path(path_type=Path), help="Where copies of changed files go, in the data directory.")
@pass_invocation
def repair(invocation: Invocation, target: str | None, mode: str | None, execute: bool, backup: Path | None) -> int:
    """Repair damaged partitions of a stopped broker: TOPIC, TOPIC/PARTITION, or all.

    "mended": the header of a batch is put right, nothing is lost. "skipped": the records are lost, their offsets stay
    unused and every reader passes them. "cut": they are lost, and so is everything behind them; those offsets are given
    out again. Exits 8 while there is damage that was not repaired.
    """
    if mode is None:
        raise click.UsageError("say --skip or --truncate: what is to be done where records are lost?")
    if target is not None and ("/" in target and Path(target).exists()):
        raise InvalidRequest(f"{target} is a path: name TOPIC or TOPIC/PARTITION, with --data-dir")
    data_dir = data_dir_of(invocation)
    places = [place for place in partitions(target, data_dir) if place.directory.is_dir()]
    files = DiskFiles(data_dir)
    with _held(files) if execute else _looked_at():
        plans = [(place, plan_repair(files, _relative(place, data_dir), Mode(mode))) for place in places]
        plans = [(place, plan) for place, plan in plans if plan.changes]
        print_rows(invocation, [row for place, plan in plans for row in _rows(place, plan)], _COLUMNS)
        _sum_up(invocation, [plan for _, plan in plans])
        if not plans or not execute:
            return failures.DAMAGE_FOUND if plans else 0
        to = backup or Path("repairs") / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        for place, plan in plans:
            kept = f"{_inside(to, data_dir)}/{place.label.replace('/', '-')}"
            back_up(files, plan, kept)
            carry_out(files, plan)
            note(invocation, f"{place.label} is repaired; the files as they were are in {data_dir / kept}")
    return 0


@contextmanager
def _held(files: DiskFiles) -> Iterator[None]:
    lock = files.lock(LOCK)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _looked_at() -> Iterator[None]:
    yield


def _relative(place: PartitionPlace, data_dir: Path) -> str:
    return str(place.directory.relative_to(data_dir))


def _inside(backup: Path, data_dir: Path) -> str:
    """``backup`` relative to the data directory. Raises InvalidRequest where it is elsewhere."""
    relative = backup.relative_to(data_dir) if backup.is_relative_to(data_dir) else backup
    if relative.is_absolute() or ".." in relative.parts:
        raise InvalidRequest(
            f"--backup {backup} is not inside {data_dir}: a copy elsewhere could not be made durable with it"
        )
    return str(relative)


def _rows(place: PartitionPlace, plan: RepairPlan) -> Iterator[Row]:
    for change in plan.changes:
        yield {
            "partition": place.label,
            "action": change.kind.value,
            "first_offset": change.first_offset,
            "last_offset": change.last_offset,
            "lost": change.lost,
            "file": change.file,
            "position": change.position,
            "bytes": change.size,
            "why": change.why,
        }


def _sum_up(invocation: Invocation, plans: list[RepairPlan]) -> None:
    changes = [change for plan in plans for change in plan.changes]
    lost = sum(change.lost for change in changes)
    places = f"{len(changes)} places in {len(plans)} partitions"
    note(invocation, f"{places}, {lost} offsets are lost" if changes else "there is nothing to repair")
