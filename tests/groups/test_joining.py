"""JoinGroup: barriers, ids, protocols, limits."""

import pytest

from logbroker.errors import LogbrokerError
from logbroker.groups import messages as m
from tests.groups.driver import GroupDriver, code_of, protocols


def test_the_first_member_waits_for_the_initial_delay_and_leads() -> None:
    group = GroupDriver()
    token, reply = group.start_join()
    assert reply is None
    group.advance(2_999)
    assert group.parked == {token}
    group.advance(1)
    joined = group.joined(token)
    assert (joined.member_id, joined.leader, joined.generation, joined.protocol) == ("m1", "m1", 1, "range")
    assert [member.member_id for member in joined.members] == ["m1"]
    assert group.state() is m.GroupState.COMPLETING_REBALANCE


def test_a_member_that_comes_within_the_initial_delay_extends_it_once_more() -> None:
    group = GroupDriver()
    first, _ = group.start_join()
    group.advance(2_000)
    second, _ = group.start_join()
    group.advance(1_000)
    assert group.parked == {first, second}
    group.advance(3_000)
    assert group.joined(first).generation == group.joined(second).generation == 1


def test_the_initial_delay_never_exceeds_the_rebalance_timeout() -> None:
    group = GroupDriver()
    first, _ = group.start_join(rebalance_ms=7_000)
    for _ in range(6):
        group.advance(1_000)
        group.start_join(rebalance_ms=7_000)
    group.advance(1_000)
    assert group.joined(first).generation == 1


def test_only_the_leader_is_told_the_members() -> None:
    group = GroupDriver()
    first, _ = group.start_join()
    second, _ = group.start_join()
    group.advance(6_000)
    assert len(group.joined(first).members) == 2
    assert group.joined(second).members == ()


def test_a_new_member_makes_a_stable_group_join_again() -> None:
    group = GroupDriver()
    old, *_ = group.form(1)
    token, reply = group.start_join()
    assert reply is None
    assert group.beat(old) == "REBALANCE_IN_PROGRESS"
    again, _ = group.start_join(old)
    # The barrier opens with the last member, without waiting for any timeout.
    assert group.joined(token).generation == 2
    assert group.joined(again).generation == 2
    assert group.state() is m.GroupState.COMPLETING_REBALANCE


def test_whoever_misses_the_rebalance_timeout_is_out() -> None:
    group = GroupDriver()
    silent, *_ = group.form(1)
    token, _ = group.start_join(rebalance_ms=20_000, session_ms=30_000)
    for _ in range(6):
        assert group.beat(silent) == "REBALANCE_IN_PROGRESS"
        group.advance(9_000)
    group.advance(9_000)
    assert group.joined(token).members[0].member_id == group.joined(token).member_id
    assert group.beat(silent) == "UNKNOWN_MEMBER_ID"


def test_a_new_dynamic_member_must_join_with_the_id_it_is_given() -> None:
    group = GroupDriver()
    _, refusal = group.start_join(id_required=True)
    assert isinstance(refusal, LogbrokerError)
    assert refusal.code == "MEMBER_ID_REQUIRED"
    token, reply = group.start_join(refusal.fields["member_id"], id_required=True)
    assert reply is None
    group.advance(3_000)
    assert group.joined(token).member_id == refusal.fields["member_id"]


def test_an_id_that_is_not_used_in_time_is_forgotten() -> None:
    group = GroupDriver()
    _, refusal = group.start_join(id_required=True, session_ms=10_000)
    assert isinstance(refusal, LogbrokerError)
    group.advance(10_000)
    _, reply = group.start_join(refusal.fields["member_id"])
    assert code_of(reply) == "UNKNOWN_MEMBER_ID"


def test_the_barrier_waits_for_ids_that_were_given_out() -> None:
    group = GroupDriver()
    old, *_ = group.form(1)
    _, refusal = group.start_join(id_required=True, session_ms=10_000)
    waiting, _ = group.start_join(old)
    assert waiting in group.parked
    assert isinstance(refusal, LogbrokerError)
    group.start_join(refusal.fields["member_id"])
    assert len(group.joined(waiting).members) == 2


def test_a_member_that_missed_the_answer_gets_it_again() -> None:
    group = GroupDriver()
    leader, follower = group.form(2)
    _, reply = group.start_join(follower)
    assert isinstance(reply, m.Joined)
    assert (reply.generation, reply.members) == (1, ())
    assert group.state() is m.GroupState.STABLE
    assert group.beat(leader) == "ok"


def test_a_join_of_the_leader_makes_the_group_rebalance() -> None:
    group = GroupDriver()
    leader, follower = group.form(2)
    token, reply = group.start_join(leader)
    assert reply is None
    assert group.beat(follower) == "REBALANCE_IN_PROGRESS"
    group.start_join(follower)
    assert group.joined(token).generation == 2


def test_a_changed_subscription_makes_the_group_rebalance() -> None:
    group = GroupDriver()
    leader, follower = group.form(2)
    group.start_join(follower, offers=protocols("range", topics=("orders", "payments")))
    assert group.state() is m.GroupState.PREPARING_REBALANCE
    assert group.beat(leader) == "REBALANCE_IN_PROGRESS"


def test_a_join_repeated_while_it_waits_replaces_the_first() -> None:
    group = GroupDriver()
    leader, _ = group.form(2)
    first, _ = group.start_join(leader)
    second, _ = group.start_join(leader)
    assert code_of(group.replies[first]) == "REBALANCE_IN_PROGRESS"
    assert second in group.parked


def test_the_protocol_that_most_members_prefer_of_what_all_offer_is_chosen() -> None:
    group = GroupDriver()
    tokens = [
        group.start_join(offers=protocols("sticky", "range", "roundrobin"))[0],
        group.start_join(offers=protocols("roundrobin", "range"))[0],
        group.start_join(offers=protocols("roundrobin", "range"))[0],
    ]
    group.advance(6_000)
    assert {group.joined(token).protocol for token in tokens} == {"roundrobin"}


@pytest.mark.parametrize(
    ("offers", "protocol_type"),
    [(protocols("sticky"), "consumer"), (protocols("range"), "connect"), ((), "consumer"), (protocols("range"), "")],
)
def test_a_member_that_shares_no_protocol_is_refused(offers: tuple[object, ...], protocol_type: str) -> None:
    group = GroupDriver()
    group.form(1)
    _, reply = group.start_join(offers=offers, protocol_type=protocol_type)  # type: ignore[arg-type]  # parametrized
    assert code_of(reply) == "INCONSISTENT_GROUP_PROTOCOL"
    assert group.state() is m.GroupState.STABLE


def test_an_empty_group_may_change_its_protocol_type() -> None:
    group = GroupDriver()
    only, *_ = group.form(1)
    group.leave(m.Leaver(only))
    token, _ = group.start_join(protocol_type="connect", offers=protocols("eager"))
    group.advance(3_000)
    assert group.joined(token).protocol_type == "connect"


@pytest.mark.parametrize("session_ms", [5_999, 1_800_001, 0, -1])
def test_a_session_timeout_out_of_range_is_refused(session_ms: int) -> None:
    assert code_of(GroupDriver().start_join(session_ms=session_ms)[1]) == "INVALID_SESSION_TIMEOUT"


def test_a_full_group_takes_nobody_new_but_its_members_stay() -> None:
    group = GroupDriver(m.GroupLimits(max_size=2))
    _leader, follower = group.form(2)
    assert code_of(group.start_join()[1]) == "GROUP_MAX_SIZE_REACHED"
    assert isinstance(group.start_join(follower)[1], m.Joined)


def test_a_new_member_whose_join_waits_too_long_is_out() -> None:
    group = GroupDriver(m.GroupLimits(new_member_join_timeout_ms=20_000))
    old, *_ = group.form(1, rebalance_ms=600_000)
    token, _ = group.start_join()
    for _ in range(3):
        group.beat(old)
        group.advance(7_000)
    assert code_of(group.replies[token]) == "UNKNOWN_MEMBER_ID"


def test_an_unknown_member_id_is_refused() -> None:
    group = GroupDriver()
    assert code_of(group.start_join("nobody")[1]) == "UNKNOWN_MEMBER_ID"
    group.form(1)
    assert code_of(group.start_join("nobody")[1]) == "UNKNOWN_MEMBER_ID"
