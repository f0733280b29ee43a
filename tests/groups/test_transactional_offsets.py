"""Positions that are committed in a transaction: they count when it is committed, and not before."""

from logbroker.errors import IllegalGeneration, UnknownMember
from logbroker.groups import messages as m
from logbroker.groups.group import Group
from logbroker.model import TopicPartition
from tests.groups.driver import GroupDriver

HERE, THERE = TopicPartition("orders", 0), TopicPartition("orders", 1)
NOBODY = m.MemberClaim("", -1)


def pend(group: GroupDriver, offset: int, producer_id: int = 1, where: TopicPartition = HERE) -> object:
    return group.send(m.CommitOffsets(NOBODY, (m.OffsetToCommit(where, offset),), True, producer_id))


def commit(group: GroupDriver, offset: int) -> None:
    group.send(m.CommitOffsets(NOBODY, (m.OffsetToCommit(HERE, offset),), True))


def committed(group: GroupDriver) -> dict[TopicPartition, int]:
    reply = group.send(m.FetchOffsets())
    assert isinstance(reply, m.Offsets)
    return {where: found.offset for where, found in reply.offsets.items()}


def unstable(group: GroupDriver) -> frozenset[TopicPartition]:
    reply = group.send(m.FetchOffsets())
    assert isinstance(reply, m.Offsets)
    return reply.unstable


def test_positions_count_once_their_transaction_is_committed() -> None:
    group = GroupDriver()
    commit(group, 3)
    pend(group, 7)
    pend(group, 9, where=THERE)
    assert (committed(group), unstable(group)) == ({HERE: 3}, frozenset([HERE, THERE]))
    group.send(m.EndTransaction(1, True))
    assert (committed(group), unstable(group)) == ({HERE: 7, THERE: 9}, frozenset())


def test_positions_of_an_aborted_transaction_never_count() -> None:
    group = GroupDriver()
    commit(group, 3)
    pend(group, 7)
    group.send(m.EndTransaction(1, False))
    assert (committed(group), unstable(group)) == ({HERE: 3}, frozenset())


def test_an_end_is_noted_once_and_ends_the_positions_of_its_producer_alone() -> None:
    group = GroupDriver()
    pend(group, 7, producer_id=1)
    pend(group, 9, producer_id=2, where=THERE)
    group.send(m.EndTransaction(1, True))
    written = len(group.journal)
    group.send(m.EndTransaction(1, True))
    group.send(m.EndTransaction(3, True))
    assert len(group.journal) == written
    assert (committed(group), unstable(group)) == ({HERE: 7}, frozenset([THERE]))


def test_a_later_commit_is_not_overtaken_by_an_earlier_transaction() -> None:
    group = GroupDriver()
    pend(group, 7)
    commit(group, 20)
    group.send(m.EndTransaction(1, True))
    assert committed(group) == {HERE: 20}


def test_a_deleted_topic_takes_its_pending_positions_along() -> None:
    group = GroupDriver()
    pend(group, 7)
    group.send(m.ForgetTopic("orders"))
    assert unstable(group) == frozenset()
    group.send(m.EndTransaction(1, True))
    assert committed(group) == {}


def test_a_member_that_says_who_it_is_must_be_that() -> None:
    group = GroupDriver()
    commit(group, 1)
    for claim, error in ((m.MemberClaim("stranger", 3), UnknownMember), (m.MemberClaim("", 5), IllegalGeneration)):
        reply = group.send(m.CommitOffsets(claim, (m.OffsetToCommit(HERE, 7),), True, 1))
        assert isinstance(reply, error | UnknownMember), reply
    assert unstable(group) == frozenset()


def test_the_journal_and_the_snapshot_keep_what_is_pending() -> None:
    group = GroupDriver()
    commit(group, 3)
    pend(group, 7)
    pend(group, 9, producer_id=2, where=THERE)
    for events in (group.journal, list(group.group.snapshot())):
        again = Group(group.limits)
        for event in events:
            again.apply(event)
        assert again.hard == group.group.hard
