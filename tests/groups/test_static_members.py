"""Members with a group.instance.id: they keep their place over a restart of their process, and of the broker."""

from logbroker.groups import messages as m
from tests.groups.driver import GroupDriver, code_of, protocols


def form_with_static(group: GroupDriver, caller: str = "c1") -> tuple[str, str]:
    """A stable group of a dynamic leader and a static follower 'a'."""
    first, _ = group.start_join()
    second, _ = group.start_join(instance="a", caller=caller)
    group.advance(6_000)
    leader, static = group.joined(first).member_id, group.joined(second).member_id
    group.settle(leader, static)
    return leader, static


def test_a_restarted_static_member_takes_over_its_assignment_without_a_rebalance() -> None:
    group = GroupDriver()
    leader, old = form_with_static(group)
    _, reply = group.start_join(instance="a", caller="c2")
    assert isinstance(reply, m.Joined)
    assert reply.member_id != old
    assert reply.generation == 1
    _, synced = group.start_sync(reply.member_id, instance="a")
    assert isinstance(synced, m.Synced)
    assert synced.assignment == old.encode()
    assert group.beat(leader) == "ok"


def test_the_old_process_of_a_static_member_is_fenced() -> None:
    group = GroupDriver()
    _, old = form_with_static(group)
    group.start_join(instance="a", caller="c2")
    assert group.beat(old, instance="a") == "FENCED_INSTANCE_ID"
    assert code_of(group.start_sync(old, instance="a")[1]) == "FENCED_INSTANCE_ID"
    assert code_of(group.start_join(old, instance="a")[1]) == "FENCED_INSTANCE_ID"
    assert group.leave(m.Leaver(old, "a")) == ["FENCED_INSTANCE_ID"]


def test_a_restarted_static_leader_learns_the_members_but_must_not_assign() -> None:
    group = GroupDriver()
    token, _ = group.start_join(instance="a")
    group.advance(3_000)
    old = group.joined(token).member_id
    group.settle(old)
    _, reply = group.start_join(instance="a", can_skip=True)
    assert isinstance(reply, m.Joined)
    assert reply.skip_assignment
    assert reply.leader == reply.member_id
    assert [member.member_id for member in reply.members] == [reply.member_id]


def test_an_old_client_that_cannot_skip_assignment_is_not_told_that_it_leads() -> None:
    group = GroupDriver()
    token, _ = group.start_join(instance="a")
    group.advance(3_000)
    old = group.joined(token).member_id
    group.settle(old)
    _, reply = group.start_join(instance="a")
    assert isinstance(reply, m.Joined)
    assert (reply.leader, reply.members, reply.skip_assignment) == (old, (), False)


def test_a_rejoin_by_the_same_connection_keeps_the_member_id() -> None:
    group = GroupDriver()
    _, old = form_with_static(group, caller="c1")
    _, reply = group.start_join(instance="a", caller="c1")
    assert isinstance(reply, m.Joined)
    assert reply.member_id == old
    assert group.beat(old, instance="a") == "ok"


def test_a_join_sent_twice_by_the_same_connection_is_not_fenced_by_itself() -> None:
    group = GroupDriver()
    first, _ = group.start_join(instance="a", caller="c1")
    second, _ = group.start_join(instance="a", caller="c1")
    assert code_of(group.replies[first]) == "REBALANCE_IN_PROGRESS"
    group.advance(6_000)
    assert group.joined(second).member_id == "m1"


def test_a_connection_that_took_over_a_stable_place_keeps_its_id_on_a_rejoin() -> None:
    group = GroupDriver()
    form_with_static(group)
    _, reply = group.start_join(instance="a", caller="c2")
    _, again = group.start_join(instance="a", caller="c2")
    assert isinstance(reply, m.Joined)
    assert isinstance(again, m.Joined)
    assert again.member_id == reply.member_id


def test_a_join_that_waits_is_fenced_by_another_process() -> None:
    group = GroupDriver()
    first, _ = group.start_join(instance="a", caller="c1")
    second, _ = group.start_join(instance="a", caller="c2")
    assert code_of(group.replies[first]) == "FENCED_INSTANCE_ID"
    group.advance(6_000)
    assert group.joined(second).member_id == "m2"


def test_a_static_member_replaced_while_others_sync_makes_all_join_again() -> None:
    group = GroupDriver()
    first, _ = group.start_join()
    group.start_join(instance="a", caller="c1")
    group.advance(6_000)
    leader = group.joined(first).member_id
    token, _ = group.start_join(instance="a", caller="c2")
    assert group.state() is m.GroupState.PREPARING_REBALANCE
    assert group.beat(leader) == "REBALANCE_IN_PROGRESS"
    group.start_join(leader)
    assert group.joined(token).generation == 2


def test_a_changed_choice_of_protocol_makes_all_join_again() -> None:
    group = GroupDriver()
    leader, _ = form_with_static(group)
    token, reply = group.start_join(instance="a", caller="c2", offers=protocols("sticky", "range"))
    # Only "range" is common: the choice stays, and so does the group.
    assert isinstance(reply, m.Joined)
    assert group.beat(leader) == "ok"
    assert token not in group.parked


def test_a_static_member_outlives_a_missed_rebalance_until_its_session_ends() -> None:
    group = GroupDriver()
    first, _ = group.start_join(session_ms=30_000, rebalance_ms=10_000)
    second, _ = group.start_join(instance="a", session_ms=30_000, rebalance_ms=10_000)
    group.advance(6_000)
    leader, static = group.joined(first).member_id, group.joined(second).member_id
    group.settle(leader, static)
    again, _ = group.start_join(leader, session_ms=30_000, rebalance_ms=10_000)
    group.advance(10_000)
    assert [member.member_id for member in group.joined(again).members] == [leader, static]
    group.settle(leader)
    group.advance(20_000)
    assert [member.member_id for member in group.group.view().members] == [leader]


def test_an_administrator_takes_out_a_static_member_by_its_instance_id() -> None:
    group = GroupDriver()
    leader, static = form_with_static(group)
    assert group.leave(m.Leaver("", "a"), m.Leaver("", "b")) == ["ok", "UNKNOWN_MEMBER_ID"]
    assert group.beat(static) == "UNKNOWN_MEMBER_ID"
    assert group.beat(leader) == "REBALANCE_IN_PROGRESS"


def test_a_static_member_replaced_in_a_full_group_is_let_in() -> None:
    group = GroupDriver(m.GroupLimits(max_size=2))
    form_with_static(group)
    assert isinstance(group.start_join(instance="a", caller="c2")[1], m.Joined)


def test_a_restarted_broker_does_not_fence_the_process_that_just_took_over() -> None:
    group = GroupDriver()
    leader, _ = form_with_static(group)
    group.start_join(leader)
    token, _ = group.start_join(instance="a", caller="c2")
    taken_over = group.joined(token).member_id
    group.restart()
    again, reply = group.start_join(taken_over, instance="a")
    assert reply is None
    group.start_join(leader)
    assert group.joined(again).member_id == taken_over
