"""SyncGroup, Heartbeat, LeaveGroup, and members that fall silent."""

from logbroker.groups import messages as m
from tests.groups.driver import GroupDriver, code_of


def test_followers_wait_for_the_leader_and_get_their_own_assignment() -> None:
    group = GroupDriver()
    first, _ = group.start_join()
    second, _ = group.start_join()
    group.advance(6_000)
    leader, follower = group.joined(first).member_id, group.joined(second).member_id
    waiting, reply = group.start_sync(follower)
    assert reply is None
    _, own = group.start_sync(leader, {leader: b"left", follower: b"right"})
    assert isinstance(own, m.Synced)
    assert own.assignment == b"left"
    other = group.replies[waiting]
    assert isinstance(other, m.Synced)
    assert other.assignment == b"right"


def test_a_member_the_leader_forgot_gets_an_empty_assignment() -> None:
    group = GroupDriver()
    first, _ = group.start_join()
    second, _ = group.start_join()
    group.advance(6_000)
    leader, follower = group.joined(first).member_id, group.joined(second).member_id
    group.start_sync(leader, {leader: b"all", "stranger": b"?"})
    _, reply = group.start_sync(follower)
    assert isinstance(reply, m.Synced)
    assert reply.assignment == b""


def test_a_sync_of_another_generation_or_protocol_is_refused() -> None:
    group = GroupDriver()
    leader, *_ = group.form(1)
    for claim, protocol, code in [
        (m.MemberClaim(leader, 0), None, "ILLEGAL_GENERATION"),
        (m.MemberClaim("nobody", 1), None, "UNKNOWN_MEMBER_ID"),
        (m.MemberClaim(leader, 1), "sticky", "INCONSISTENT_GROUP_PROTOCOL"),
        (m.MemberClaim(leader, 1), "range", "ok"),
    ]:
        assert code_of(group.send(m.SyncGroup(token=90, claim=claim, protocol=protocol))) == code


def test_syncs_that_wait_are_sent_back_to_join_when_the_group_rebalances() -> None:
    group = GroupDriver()
    first, _ = group.start_join()
    second, _ = group.start_join()
    group.advance(6_000)
    leader, follower = group.joined(first).member_id, group.joined(second).member_id
    waiting, _ = group.start_sync(follower)
    group.start_join()
    assert code_of(group.replies[waiting]) == "REBALANCE_IN_PROGRESS"
    assert code_of(group.start_sync(leader, {})[1]) == "REBALANCE_IN_PROGRESS"


def test_a_member_that_never_syncs_is_out_after_the_rebalance_timeout() -> None:
    group = GroupDriver()
    first, _ = group.start_join(rebalance_ms=20_000)
    second, _ = group.start_join(rebalance_ms=20_000)
    group.advance(6_000)
    leader, follower = group.joined(first).member_id, group.joined(second).member_id
    group.settle(leader)
    for _ in range(3):
        group.beat(leader)
        group.beat(follower)
        group.advance(7_000)
    assert group.beat(follower) == "UNKNOWN_MEMBER_ID"
    assert group.beat(leader) == "REBALANCE_IN_PROGRESS"


def test_heartbeats_keep_a_member_in_and_silence_puts_it_out() -> None:
    group = GroupDriver()
    loud, silent = group.form(2, session_ms=10_000)
    group.advance(9_000)
    assert group.beat(loud) == "ok"
    group.advance(1_000)
    assert group.beat(silent) == "UNKNOWN_MEMBER_ID"
    assert group.beat(loud) == "REBALANCE_IN_PROGRESS"


def test_a_member_that_waits_for_our_answer_is_not_silent() -> None:
    group = GroupDriver()
    first, second = group.form(2, session_ms=10_000, rebalance_ms=60_000)
    token, _ = group.start_join(first, session_ms=10_000)
    for _ in range(5):
        group.advance(9_000)
        assert group.beat(second) == "REBALANCE_IN_PROGRESS"
    group.start_join(second, session_ms=10_000)
    assert group.joined(token).generation == 2


def test_a_heartbeat_of_a_past_generation_is_refused() -> None:
    group = GroupDriver()
    leader, *_ = group.form(1)
    assert group.beat(leader, generation=0) == "ILLEGAL_GENERATION"
    assert group.beat("nobody") == "UNKNOWN_MEMBER_ID"


def test_leaving_makes_the_others_join_again() -> None:
    group = GroupDriver()
    leader, follower = group.form(2)
    assert group.leave(m.Leaver(leader)) == ["ok"]
    assert group.beat(follower) == "REBALANCE_IN_PROGRESS"
    token, _ = group.start_join(follower)
    reply = group.send(m.DescribeGroup())
    assert isinstance(reply, m.GroupView)
    assert (reply.leader, reply.generation) == (follower, 2)
    assert token not in group.parked


def test_members_leave_as_a_batch_and_each_is_answered() -> None:
    group = GroupDriver()
    first, second, third = group.form(3)
    assert group.leave(m.Leaver(first), m.Leaver("nobody"), m.Leaver(second)) == ["ok", "UNKNOWN_MEMBER_ID", "ok"]
    assert [member.member_id for member in group.group.view().members] == [third]


def test_the_last_member_to_leave_empties_the_group() -> None:
    group = GroupDriver()
    only, *_ = group.form(1)
    group.leave(m.Leaver(only))
    assert group.state() is m.GroupState.EMPTY
    assert group.group.view().generation == 2
    assert group.beat(only) == "UNKNOWN_MEMBER_ID"


def test_a_leaver_with_a_join_that_waits_is_answered() -> None:
    group = GroupDriver()
    token, _ = group.start_join()
    assert group.leave(m.Leaver("m1")) == ["ok"]
    assert code_of(group.replies[token]) == "UNKNOWN_MEMBER_ID"
    group.advance(10_000)
    assert group.state() is m.GroupState.EMPTY


def test_an_id_that_was_given_out_can_leave_before_it_joins() -> None:
    group = GroupDriver()
    group.start_join(id_required=True)
    assert group.leave(m.Leaver("m1")) == ["ok"]
    assert group.group.next_deadline(group.now) is None


def test_when_every_member_falls_silent_the_group_is_empty() -> None:
    group = GroupDriver()
    group.form(3, session_ms=10_000)
    group.advance(10_000)
    assert group.state() is m.GroupState.EMPTY


def test_an_empty_group_without_offsets_is_forgotten_after_a_while() -> None:
    group = GroupDriver()
    only, *_ = group.form(1)
    group.leave(m.Leaver(only))
    group.advance(599_999)
    assert group.state() is m.GroupState.EMPTY
    group.advance(1)
    assert group.state() is m.GroupState.DEAD
    assert list(group.group.snapshot()) == []
    assert group.group.next_deadline(group.now) is None


def test_an_empty_group_with_offsets_is_kept_for_ever() -> None:
    group = GroupDriver()
    only, *_ = group.form(1)
    group.commit(only, 7)
    group.leave(m.Leaver(only))
    group.advance(10**9)
    assert group.state() is m.GroupState.EMPTY
    assert group.committed() == 7
