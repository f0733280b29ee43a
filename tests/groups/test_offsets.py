"""Committed offsets: fencing by generation, moving back, administration, and what a restart keeps."""

from logbroker.groups import messages as m
from logbroker.groups.events import CommittedOffset, GroupProtocol
from logbroker.model import TopicPartition
from tests.groups.driver import WALL_MS, GroupDriver, code_of, first_code, protocols

ORDERS = TopicPartition("orders", 0)
PAYMENTS = TopicPartition("payments", 0)


def test_a_member_commits_in_its_generation() -> None:
    group = GroupDriver()
    leader, *_ = group.form(1)
    assert group.commit(leader, 5, metadata="note") == "ok"
    reply = group.send(m.FetchOffsets((ORDERS, PAYMENTS)))
    assert reply == m.Offsets({ORDERS: CommittedOffset(ORDERS, 5, -1, "note", WALL_MS + group.mono_ms, 1)})


def test_a_zombie_of_a_past_generation_commits_nothing() -> None:
    group = GroupDriver()
    leader, *_ = group.form(1)
    group.commit(leader, 5)
    group.start_join(leader)
    group.settle(leader)
    assert group.commit(leader, 9, generation=1) == "ILLEGAL_GENERATION"
    assert group.commit("nobody", 9) == "UNKNOWN_MEMBER_ID"
    assert group.committed() == 5


def test_members_may_commit_while_the_group_prepares_a_rebalance_but_not_while_it_completes_one() -> None:
    group = GroupDriver()
    leader, *_ = group.form(1)
    group.start_join()
    assert group.commit(leader, 5) == "ok"
    group.start_join(leader)
    assert group.state() is m.GroupState.COMPLETING_REBALANCE
    assert group.commit(leader, 6) == "REBALANCE_IN_PROGRESS"


def test_a_commit_counts_as_a_sign_of_life() -> None:
    group = GroupDriver()
    leader, *_ = group.form(1, session_ms=10_000)
    for offset in range(3):
        group.advance(9_000)
        assert group.commit(leader, offset) == "ok"
    assert group.beat(leader) == "ok"


def test_a_consumer_without_membership_commits_only_while_the_group_is_empty() -> None:
    group = GroupDriver()
    assert group.commit("", 5, generation=-1) == "ok"
    assert group.state() is m.GroupState.EMPTY
    leader, *_ = group.form(1)
    assert group.commit("", 6, generation=-1) == "UNKNOWN_MEMBER_ID"
    assert group.commit("", 6, generation=1) == "UNKNOWN_MEMBER_ID"
    group.leave(m.Leaver(leader))
    assert group.commit("", 6, generation=-1) == "ok"


def test_a_generation_of_a_group_that_never_was_is_illegal() -> None:
    assert GroupDriver().commit("ghost", 5, generation=3) == "ILLEGAL_GENERATION"


def test_a_late_smaller_commit_has_no_effect_within_its_generation() -> None:
    group = GroupDriver()
    leader, *_ = group.form(1)
    group.commit(leader, 9)
    assert group.commit(leader, 5) == "ok"
    assert group.committed() == 9


def test_a_member_moves_back_when_it_says_so() -> None:
    group = GroupDriver()
    leader, *_ = group.form(1)
    group.commit(leader, 9)
    assert group.commit(leader, 5, may_go_back=True) == "ok"
    assert group.committed() == 5


def test_the_next_generation_may_commit_lower() -> None:
    group = GroupDriver()
    leader, *_ = group.form(1)
    group.commit(leader, 9)
    group.start_join(leader)
    group.settle(leader)
    group.commit(leader, 5)
    assert group.committed() == 5


def test_one_unacceptable_position_does_not_spoil_the_others() -> None:
    group = GroupDriver(m.GroupLimits(offset_metadata_max_bytes=4))
    wanted = (
        m.OffsetToCommit(ORDERS, 5, metadata="four"),
        m.OffsetToCommit(PAYMENTS, 5, metadata="fünf"),
        m.OffsetToCommit(TopicPartition("orders", 1), -1),
    )
    reply = group.send(m.CommitOffsets(m.MemberClaim("", -1), wanted))
    assert isinstance(reply, m.OffsetResults)
    assert [code_of(error) for _, error in reply.results] == ["ok", "OFFSET_METADATA_TOO_LARGE", "INVALID_OFFSET"]
    assert group.committed() == 5


def test_an_administrator_resets_offsets_of_a_group_without_members() -> None:
    group = GroupDriver()
    leader, *_ = group.form(1)
    group.commit(leader, 9)
    back = (m.OffsetToCommit(ORDERS, 2),)
    assert code_of(group.send(m.ResetOffsets(back))) == "NON_EMPTY_GROUP"
    assert first_code(group.send(m.ResetOffsets(back, force=True))) == "ok"
    assert group.committed() == 2


def test_offsets_of_a_topic_that_is_being_read_are_not_deleted() -> None:
    group = GroupDriver()
    group.commit("", 5, generation=-1)
    group.send(m.CommitOffsets(m.MemberClaim("", -1), (m.OffsetToCommit(PAYMENTS, 3),)))
    group.form(1)
    reply = group.send(m.DeleteOffsets((ORDERS, PAYMENTS)))
    assert isinstance(reply, m.OffsetResults)
    assert [code_of(error) for _, error in reply.results] == ["GROUP_SUBSCRIBED_TO_TOPIC", "ok"]
    assert group.send(m.FetchOffsets((PAYMENTS,))) == m.Offsets({})


def test_a_subscription_that_cannot_be_read_protects_every_topic() -> None:
    group = GroupDriver()
    group.commit("", 5, generation=-1)
    group.form(1, offers=(GroupProtocol("range", b"\xff"),))
    assert first_code(group.send(m.DeleteOffsets((ORDERS,)))) == "GROUP_SUBSCRIBED_TO_TOPIC"


def test_offsets_of_other_protocols_are_deleted_only_without_members() -> None:
    group = GroupDriver()
    group.commit("", 5, generation=-1)
    only, *_ = group.form(1, protocol_type="connect")
    assert code_of(group.send(m.DeleteOffsets((ORDERS,)))) == "NON_EMPTY_GROUP"
    group.leave(m.Leaver(only))
    assert first_code(group.send(m.DeleteOffsets((ORDERS,)))) == "ok"
    assert group.committed() is None


def test_offsets_of_a_deleted_topic_go_even_while_members_read() -> None:
    group = GroupDriver()
    leader, *_ = group.form(1)
    group.commit(leader, 5)
    group.send(m.ForgetTopic("payments"))
    assert group.committed() == 5
    group.send(m.ForgetTopic("orders"))
    assert group.committed() is None


def test_a_group_is_deleted_only_without_members() -> None:
    group = GroupDriver()
    assert code_of(group.send(m.DeleteGroup())) == "GROUP_ID_NOT_FOUND"
    assert code_of(group.send(m.DeleteOffsets((ORDERS,)))) == "GROUP_ID_NOT_FOUND"
    leader, *_ = group.form(1)
    group.commit(leader, 5)
    assert code_of(group.send(m.DeleteGroup())) == "NON_EMPTY_GROUP"
    group.leave(m.Leaver(leader))
    assert code_of(group.send(m.DeleteGroup())) == "ok"
    assert group.state() is m.GroupState.DEAD
    assert group.committed() is None
    assert list(group.group.snapshot()) == []


# -- restarts ------------------------------------------------------------------------------------------------------------


def test_a_restarted_broker_goes_on_with_the_same_generation_and_members() -> None:
    group = GroupDriver()
    leader, follower = group.form(2, session_ms=10_000)
    group.commit(leader, 5)
    group.advance(9_000)
    group.restart()
    group.advance(9_000)
    assert group.beat(leader) == group.beat(follower) == "ok"
    _, reply = group.start_sync(follower)
    assert isinstance(reply, m.Synced)
    assert reply.assignment == follower.encode()
    assert group.commit(leader, 6) == "ok"
    assert group.committed() == 6


def test_members_that_died_with_the_broker_are_out_one_session_after_its_restart() -> None:
    group = GroupDriver()
    group.form(2, session_ms=10_000)
    group.restart()
    group.advance(10_000)
    assert group.state() is m.GroupState.EMPTY


def test_a_rebalance_cut_short_by_a_crash_begins_anew_and_no_generation_number_is_used_twice() -> None:
    group = GroupDriver()
    leader, follower = group.form(2)
    group.start_join(leader)
    group.start_join(follower)
    assert group.state() is m.GroupState.COMPLETING_REBALANCE
    group.restart()
    assert group.state() is m.GroupState.PREPARING_REBALANCE
    assert group.beat(leader, generation=2) == "REBALANCE_IN_PROGRESS"
    assert group.beat(follower, generation=1) == "ILLEGAL_GENERATION"
    group.start_join(leader)
    token, _ = group.start_join(follower)
    assert group.group.soft.generation == 3
    assert token not in group.parked


def test_a_snapshot_rebuilds_what_the_journal_says() -> None:
    group = GroupDriver()
    leader, *_ = group.form(2, offers=protocols("range", "sticky"))
    wanted = tuple(m.OffsetToCommit(TopicPartition("orders", number), number) for number in range(1_203))
    group.send(m.CommitOffsets(group.claim(leader), wanted))
    group.start_join(leader)
    snapshot = list(group.group.snapshot())
    assert len(snapshot) == 5
    group.journal = snapshot
    group.restart()


def test_a_description_shows_members_and_assignments_of_a_stable_group() -> None:
    group = GroupDriver()
    leader, *_ = group.form(1)
    (member,) = group.group.view().members
    assert (member.member_id, member.client_id, member.client_host) == (leader, "client", "host")
    assert member.assignment == leader.encode()
    assert member.metadata == protocols("range")[0].metadata
    group.start_join(leader)
    assert group.group.view().members[0].assignment == b""
    assert group.group.view().protocol == ""
