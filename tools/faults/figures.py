"""The figures that the harnesses must reach, in their order: what is asked, and which run tells.

What lives here: the table's left side. What may not: results.
"""

from typing import NamedTuple


class Figure(NamedTuple):
    """One line of the table."""

    number: str
    asked: str
    run: str


FIGURES = (
    Figure("F1", "1,000 SIGKILLs under mixed load: 0 lost, unseen, inconsistent, aborted, nonmonotonic", "kill"),
    Figure("F2", "the same run: 0 duplicates of idempotent producers; those of plain ones counted", "kill"),
    Figure("F3", "the same run: commits never move back and never run ahead", "kill"),
    Figure("F4", "the same run: 0 jobs lost, 0 double leases, 0 delivered after an answered ack", "kill"),
    Figure("F5", "100,000 crash states: each recovers, all that was acknowledged is there, nothing made up", "replay"),
    Figure("F6", "all workloads of up to 3 steps, all crash points: 0 violations", "replay"),
    Figure("F7", "1,000 power-loss images on ext4: acknowledged <= recovered <= written", "power"),
    Figure("F8", "durability = interval: worst loss <= interval + one flush; the loss of os is shown", "power"),
    Figure("F9", "12 of 12 planted bugs caught", "planted"),
    Figure("F10", "a failed flush: exit code != 0 within 1 s, 0 acks after, a restart keeps all", "fsync"),
    Figure("F11", "n-th call fails, every n, every error: 0 false acks, 0 wrong reads", "matrix"),
    Figure("F12", "every changed byte of a sealed segment is found by verify", "corruption"),
    Figure("F13", "damage in mid-log: nothing skipped or deleted, the error names file, position, offsets", "corruption"),
    Figure("F14", "every flip, length, deletion of an index: the same reads", "corruption"),
    Figure("F15", "every truncation of the active segment's last 64 KiB: the whole batches, the rest kept", "corruption"),
    Figure("F16", "every checkpoint, sidecar and catalogue damaged: starts right or refuses", "corruption"),
    Figure("F17", "disk full at 200 random points: 507, reads and acks go on, back within 5 s, 0 lost", "disk-full"),
    Figure("F19", "200 ms a flush: memory < 50 MiB more, back-pressure, no lease runs out by our stall", "slow-disk"),
    Figure("F20", "1,000 clock jumps: 0 early deletions, leases by the monotonic clock, offsets ordered", "clock"),
    Figure("F21", "unclean start of 10 GB in 1,000 partitions < 30 s; reads only past the recovery points", "restart"),
    Figure("F22", "1,000,000 fuzzed Kafka frames: no crash, hang, exception; memory bounded; others served", "kafka-fuzz"),
    Figure("F22b", "200,000 fuzzed HTTP requests: the same", "http-fuzz"),
    Figure("F23", "5,000 half-open, 500 slow, 100 deaf peers: <= 64 KiB each, closed, others at 90 %", "slow-peers"),
    Figure("F30", "model with crash and restart, 20,000 x 50 steps: 0 divergences", "model"),
)
