"""Commits in a consumer group: by epoch, and by the epoch in which a partition was assigned (KIP-1251)."""

from logbroker.groups import messages as m
from tests.groups.consumer_driver import Client, ConsumerDriver, orders
from tests.groups.driver import code_of, first_code

MEMBERS = ("a", "b")


def rebalanced() -> tuple[ConsumerDriver, Client, Client]:
    """Member a has gone from epoch 1 to 2 but has not heard of it; b has what a gave up."""
    group = ConsumerDriver(orders=4)
    a, b = group.join_as("a"), group.join_as("b")
    group.beat_as(a)
    a.let_go()
    group.beat_as(a, lost=True)
    group.beat_as(b)
    assert (a.epoch, group.consumers.current["a"].epoch, len(b.reading)) == (1, 2, 2)
    return group, a, b


def test_a_commit_on_its_way_during_a_rebalance_passes_for_what_the_member_kept() -> None:
    group, a, b = rebalanced()
    assert {group.commit_as(a, at) for at in a.reading} == {"ok"}
    assert {group.commit_as(a, at) for at in b.reading} == {"STALE_MEMBER_EPOCH"}


def test_each_partition_of_a_commit_is_judged_for_itself() -> None:
    group, a, b = rebalanced()
    mine, other = min(a.reading), min(b.reading)
    claim = m.MemberClaim("a", a.epoch)
    wanted = tuple(m.OffsetToCommit(at, 7) for at in (other, mine))
    reply = group.send(m.CommitOffsets(claim, wanted))
    assert isinstance(reply, m.OffsetResults)
    assert [(at, code_of(error)) for at, error in reply.results] == [(other, "STALE_MEMBER_EPOCH"), (mine, "ok")]
    assert set(group.group.hard.offsets) == {mine}


def test_a_commit_for_what_a_member_has_still_to_give_up_passes() -> None:
    group = ConsumerDriver(orders=6)
    a = group.join_as("a")
    group.join_as("b")
    group.beat_as(a)
    assert {group.commit_as(a, at) for at in a.reading} == {"ok"}
    a.let_go()
    group.join_as("c")
    group.beat_as(a, lost=True)
    assert group.consumers.current["a"].epoch == 2
    assert group.consumers.current["a"].revoking
    assert {group.commit_as(a, at) for at in a.reading} == {"ok"}


def test_a_partition_that_came_back_is_not_committed_at_the_epoch_before() -> None:
    group = ConsumerDriver(orders=2)
    a, b = group.join_as("a"), group.join_as("b")
    group.settle_all(a, b)
    moved = min(b.reading)
    group.leave_as(b)
    group.beat_as(a)
    assert moved in a.reading
    assert group.commit_as(a, moved) == "ok"
    assert group.commit_as(a, moved, epoch=a.epoch - 1) == "STALE_MEMBER_EPOCH"
    assert group.commit_as(a, min(a.reading - {moved}), epoch=a.epoch - 2) == "ok"


def test_a_member_that_began_anew_commits_nothing_from_before() -> None:
    group = ConsumerDriver(orders=4)
    a, b = group.join_as("a"), group.join_as("b")
    group.settle_all(a, b)
    kept = min(a.reading)
    assert group.commit_as(a, kept, epoch=1) == "ok"
    assert group.begin_anew(a) == "ok"
    assert kept in a.reading
    assert group.commit_as(a, kept, epoch=1) == "STALE_MEMBER_EPOCH"
    assert group.commit_as(a, kept) == "ok"


def test_who_is_out_commits_nothing_and_reads_no_offsets_as_a_member() -> None:
    group = ConsumerDriver()
    a, b = group.join_as("a"), group.join_as("b")
    group.leave_as(a)
    at = min(orders(0))
    assert group.commit_as(a, at) == "UNKNOWN_MEMBER_ID"
    assert group.commit_as(b, at, epoch=b.epoch + 1) == "STALE_MEMBER_EPOCH"
    assert code_of(group.send(m.FetchOffsets(claim=m.MemberClaim("a", 1)))) == "UNKNOWN_MEMBER_ID"
    assert code_of(group.send(m.FetchOffsets(claim=m.MemberClaim("b", b.epoch - 1)))) == "STALE_MEMBER_EPOCH"
    assert code_of(group.send(m.FetchOffsets(claim=m.MemberClaim("b", b.epoch)))) == "ok"
    assert code_of(group.send(m.FetchOffsets())) == "ok"


def test_without_membership_offsets_are_committed_only_while_nobody_is_in() -> None:
    group = ConsumerDriver()
    a = group.join_as("a")
    wanted = (m.OffsetToCommit(min(orders(0)), 7),)
    nobody = m.CommitOffsets(m.MemberClaim("", -1), wanted)
    assert first_code(group.send(nobody)) == "UNKNOWN_MEMBER_ID"
    assert code_of(group.send(m.ResetOffsets(wanted))) == "NON_EMPTY_GROUP"
    assert first_code(group.send(m.ResetOffsets(wanted, force=True))) == "ok"
    group.leave_as(a)
    assert first_code(group.send(nobody)) == "ok"
    assert first_code(group.send(m.ResetOffsets(wanted))) == "ok"


def test_a_late_commit_does_not_move_back_within_an_epoch() -> None:
    group = ConsumerDriver()
    a = group.join_as("a")
    at = min(a.reading)
    claim = m.MemberClaim("a", a.epoch)
    for offset, after in [(5, 5), (3, 5), (6, 6)]:
        assert first_code(group.send(m.CommitOffsets(claim, (m.OffsetToCommit(at, offset),)))) == "ok"
        assert group.group.hard.offsets[at].offset == after


def test_offsets_of_topics_that_members_read_are_not_deleted() -> None:
    group = ConsumerDriver(orders=1, other=1)
    a = group.join_as("a", topics=(), pattern="ord.*")
    group.commit_as(a, min(orders(0)))
    assert first_code(group.send(m.DeleteOffsets((min(orders(0)),)))) == "GROUP_SUBSCRIBED_TO_TOPIC"
    group.leave_as(a)
    assert first_code(group.send(m.DeleteOffsets((min(orders(0)),)))) == "ok"
    assert group.group.hard.offsets == {}
