"""The consumer protocol, heartbeat by heartbeat: coming, going, handing on partitions, fencing."""

import pytest

from logbroker.errors import LogbrokerError
from logbroker.groups import messages as m
from logbroker.groups.consumer_messages import Beaten
from logbroker.model import TopicPartition
from tests.groups.consumer_driver import NONE, Client, ConsumerDriver, orders
from tests.groups.driver import code_of

MINUTE_MS = 60_000


def owned_by(group: ConsumerDriver, client: Client) -> frozenset[TopicPartition]:
    return frozenset(group.consumers.current[client.member_id].owned)


# -- partitions change hands ---------------------------------------------------------------------------------------------


def test_the_first_member_gets_everything_at_once() -> None:
    group = ConsumerDriver(orders=6)
    reply = group.say("a", 0, topics=("orders",), rebalance_timeout_ms=MINUTE_MS, owned=NONE)
    assert isinstance(reply, Beaten)
    assert (reply.member_id, reply.epoch, reply.interval_ms) == ("a", 1, 5_000)
    assert frozenset(reply.assignment or ()) == orders(0, 1, 2, 3, 4, 5)
    assert group.consumers.state is m.GroupState.STABLE


def test_a_partition_is_handed_on_only_when_its_owner_has_given_it_up() -> None:
    group = ConsumerDriver(orders=4)
    a = group.join_as("a")
    b = group.join_as("b")
    assert b.reading == NONE
    assert b.epoch == 2
    group.beat_as(a)
    assert len(a.told) == 2
    assert a.epoch == 1, "it stays in its epoch until it has given up what it must"
    group.beat_as(b)
    assert b.reading == NONE
    kept, moved = a.told, a.reading - a.told
    a.let_go()
    group.beat_as(a)
    assert a.epoch == 2
    group.beat_as(b)
    assert (a.reading, b.reading) == (kept, moved)
    assert group.consumers.state is m.GroupState.STABLE


def test_members_keep_reading_what_does_not_move() -> None:
    group = ConsumerDriver(orders=6)
    clients = [group.join_as("a"), group.join_as("b")]
    group.settle_all(*clients)
    before = {client.member_id: client.reading for client in clients}
    clients.append(group.join_as("c"))
    for _ in range(4):
        for client in clients:
            group.beat_as(client)
            client.let_go()
        assert all(len(client.reading & before[client.member_id]) >= 2 for client in clients[:2])
    assert [len(client.reading) for client in clients] == [2, 2, 2]


def test_the_assignment_is_told_once_and_again_to_a_member_that_says_everything() -> None:
    group = ConsumerDriver()
    a = group.join_as("a")
    quiet = group.say("a", a.epoch, owned=a.reading)
    assert isinstance(quiet, Beaten)
    assert quiet.assignment is None
    full = group.say("a", a.epoch, owned=a.reading, topics=("orders",), rebalance_timeout_ms=MINUTE_MS)
    assert isinstance(full, Beaten)
    assert full.assignment is not None


def test_a_heartbeat_that_says_nothing_new_writes_nothing() -> None:
    group = ConsumerDriver()
    a = group.join_as("a")
    written = len(group.journal)
    for must_say_all in (False, True):
        a.must_say_all = must_say_all
        assert group.beat_as(a) == "ok"
    assert len(group.journal) == written


def test_a_member_that_does_not_say_what_it_owns_still_owns_it() -> None:
    group = ConsumerDriver(orders=4)
    a, b = group.join_as("a"), group.join_as("b")
    for _ in range(3):
        reply = group.say("a", a.epoch)
        assert isinstance(reply, Beaten)
        assert reply.epoch == a.epoch
        group.beat_as(b)
    assert b.reading == NONE


def test_who_does_not_give_up_partitions_in_time_is_out() -> None:
    group = ConsumerDriver(orders=4)
    a = Client("a")
    group.beat_as(a, rebalance_ms=10_000)
    b = group.join_as("b")
    group.beat_as(a)
    for _ in range(3):
        group.advance(3_000)
        assert group.beat_as(a) == "ok"
        assert group.beat_as(b) == "ok"
    group.advance(1_000)
    assert group.beat_as(a) == "UNKNOWN_MEMBER_ID"
    group.beat_as(b)
    assert b.reading == orders(0, 1, 2, 3)


def test_giving_up_in_time_ends_the_wait() -> None:
    group = ConsumerDriver(orders=4)
    a = Client("a")
    group.beat_as(a, rebalance_ms=10_000)
    group.join_as("b")
    group.beat_as(a)
    a.let_go()
    group.beat_as(a)
    group.advance(20_000)
    assert group.beat_as(a) == "ok"


# -- coming and going ----------------------------------------------------------------------------------------------------


def test_leaving_frees_partitions_at_once() -> None:
    group = ConsumerDriver(orders=4)
    a, b = group.join_as("a"), group.join_as("b")
    group.settle_all(a, b)
    assert group.leave_as(a) == "ok"
    group.beat_as(b)
    assert b.reading == orders(0, 1, 2, 3)
    assert group.leave_as(b) == "ok"
    assert group.group.view().state is m.GroupState.EMPTY


def test_the_silent_are_out_after_their_session_and_begin_anew_with_epoch_0() -> None:
    group = ConsumerDriver(m.GroupLimits(consumer_session_timeout_ms=45_000), orders=4)
    a = group.join_as("a")
    group.advance(44_999)
    assert group.beat_as(a) == "ok"
    group.advance(45_000)
    assert group.beat_as(a) == "UNKNOWN_MEMBER_ID"
    assert group.begin_anew(a) == "ok"
    assert a.epoch > 1
    assert a.reading == orders(0, 1, 2, 3)


def test_a_fenced_member_begins_anew_although_the_group_still_knows_it() -> None:
    group = ConsumerDriver(orders=4)
    a, b = group.join_as("a"), group.join_as("b")
    group.settle_all(a, b)
    assert code_of(group.say("a", 99, owned=a.reading)) == "FENCED_MEMBER_EPOCH"
    epoch = a.epoch
    assert group.begin_anew(a) == "ok"
    assert a.epoch == epoch
    assert a.reading | b.reading == orders(0, 1, 2, 3)


def test_a_member_that_begins_anew_gets_only_what_is_free() -> None:
    group = ConsumerDriver(orders=4)
    a, b = group.join_as("a"), group.join_as("b")
    group.beat_as(a)
    assert group.begin_anew(b) == "ok"
    assert b.reading == NONE, "a has not given up anything yet"
    assert group.begin_anew(a) == "ok"
    group.beat_as(b)
    assert len(a.reading) == len(b.reading) == 2


@pytest.mark.parametrize("says", ["what it had", "more than it may have", "nothing of it"])
def test_a_member_may_have_missed_one_answer_but_own_nothing_it_should_not(says: str) -> None:
    group = ConsumerDriver(orders=4)
    a = group.join_as("a")
    b = group.join_as("b")
    group.beat_as(a)
    a.let_go()
    assert group.beat_as(a, lost=True) == "lost"
    assert (a.epoch, group.consumers.current["a"].epoch) == (1, 2)
    if says == "what it had":
        assert group.beat_as(a) == "ok"
        assert a.epoch == 2
    else:
        said = {"owned": orders(0, 1, 2, 3)} if says == "more than it may have" else {}
        assert code_of(group.say("a", 1, **said)) == "FENCED_MEMBER_EPOCH"
    assert group.beat_as(b) == "ok"


def test_a_member_two_epochs_behind_is_fenced() -> None:
    group = ConsumerDriver(orders=6)
    a = group.join_as("a")
    for other in ("b", "c"):
        group.join_as(other)
        for _ in range(2):
            group.beat_as(a)
            a.let_go()
    assert a.epoch == 3
    assert code_of(group.say("a", 1, owned=a.reading)) == "FENCED_MEMBER_EPOCH"


def test_strangers_are_not_taken_for_members() -> None:
    group = ConsumerDriver()
    assert code_of(group.say("x", 3)) == "UNKNOWN_MEMBER_ID"
    assert group.group.is_vacant
    group.join_as("a")
    assert code_of(group.say("x", 1)) == "UNKNOWN_MEMBER_ID"
    assert code_of(group.say("x", -1)) == "UNKNOWN_MEMBER_ID"


@pytest.mark.parametrize(
    ("member_id", "epoch", "said", "code"),
    [
        ("", 0, {"topics": ("orders",), "rebalance_timeout_ms": 1}, "INVALID_REQUEST"),
        ("a", -3, {}, "INVALID_REQUEST"),
        ("a", -2, {}, "INVALID_REQUEST"),
        ("a", 1, {"instance_id": ""}, "INVALID_REQUEST"),
        ("a", 0, {"topics": ("orders",)}, "INVALID_REQUEST"),
        ("a", 0, {"rebalance_timeout_ms": 1}, "INVALID_REQUEST"),
        ("a", 0, {"topics": ("orders",), "rebalance_timeout_ms": 1, "owned": orders(1)}, "INVALID_REQUEST"),
        ("a", 0, {"topics": (), "rebalance_timeout_ms": 1, "assignor": "best"}, "UNSUPPORTED_ASSIGNOR"),
        ("a", 0, {"pattern": "a(", "rebalance_timeout_ms": 1}, "INVALID_REGULAR_EXPRESSION"),
        ("a", 0, {"pattern": "(a{1000}){1000}", "rebalance_timeout_ms": 1}, "INVALID_REGULAR_EXPRESSION"),
    ],
)
def test_requests_that_make_no_sense_change_nothing(member_id: str, epoch: int, said: dict[str, object], code: str) -> None:
    group = ConsumerDriver()
    assert code_of(group.say(member_id, epoch, **said)) == code
    assert group.group.is_vacant


def test_a_full_group_takes_nobody_new() -> None:
    group = ConsumerDriver(m.GroupLimits(max_size=1))
    a = group.join_as("a")
    assert group.beat_as(Client("b")) == "GROUP_MAX_SIZE_REACHED"
    assert group.begin_anew(a) == "ok"


# -- static members ------------------------------------------------------------------------------------------------------


def test_a_static_member_that_comes_back_in_time_has_what_it_had_and_nobody_notices() -> None:
    group = ConsumerDriver(orders=4)
    a, b = group.join_as("a", instance_id="i"), group.join_as("b")
    group.settle_all(a, b)
    had, epoch = a.reading, group.consumers.epoch
    assert group.leave_as(a, -2) == "ok"
    group.beat_as(b)
    assert len(b.reading) == 2
    again = group.join_as("a2", instance_id="i")
    assert again.reading == had
    assert group.consumers.epoch == epoch
    assert again.epoch == epoch
    assert group.beat_as(a) == "FENCED_INSTANCE_ID"


def test_a_static_member_that_stays_away_loses_its_place_with_its_session() -> None:
    group = ConsumerDriver(orders=4)
    a, b = group.join_as("a", instance_id="i"), group.join_as("b")
    group.settle_all(a, b)
    group.leave_as(a, -2)
    for _ in range(10):
        group.advance(5_000)
        group.beat_as(b)
    assert b.reading == orders(0, 1, 2, 3)


def test_an_instance_id_is_taken_over_only_from_who_has_left() -> None:
    group = ConsumerDriver()
    a = group.join_as("a", instance_id="i")
    rival = Client("b", instance_id="i")
    assert group.beat_as(rival) == "UNRELEASED_INSTANCE_ID"
    assert group.beat_as(a) == "ok"
    group.leave_as(a)
    assert group.beat_as(rival) == "ok"


def test_a_static_member_does_not_fence_itself() -> None:
    group = ConsumerDriver(orders=4)
    a = group.join_as("a", instance_id="i")
    assert group.begin_anew(a) == "ok"
    assert a.reading == orders(0, 1, 2, 3)
    group.leave_as(a, -2)
    assert group.begin_anew(a) == "ok"
    assert group.beat_as(a) == "ok"
    assert group.consumers.instances == {"i": "a"}


def test_a_static_member_that_is_away_has_a_full_session_and_need_not_give_anything_up_meanwhile() -> None:
    group = ConsumerDriver(m.GroupLimits(consumer_session_timeout_ms=45_000), orders=4)
    a = Client("a", instance_id="i")
    group.beat_as(a, rebalance_ms=5_000)
    group.advance(40_000)
    group.join_as("b")
    group.beat_as(a, rebalance_ms=5_000)
    group.advance(4_000)
    assert group.leave_as(a, -2) == "ok"
    group.advance(44_000)
    assert group.consumers.instances == {"i": "a"}
    assert group.join_as("a2", instance_id="i").reading


def test_who_takes_over_an_instance_id_owns_nothing_that_is_not_meant_for_it() -> None:
    group = ConsumerDriver(orders=4)
    a, b = group.join_as("a", instance_id="i"), group.join_as("b")
    group.leave_as(a, -2)
    told = group.say("a2", 0, instance_id="i", topics=("orders",), rebalance_timeout_ms=MINUTE_MS)
    assert isinstance(told, Beaten)
    assert (len(told.assignment or ()), told.epoch) == (2, 2)
    group.beat_as(b)
    assert len(b.reading) == 2


def test_a_full_group_takes_the_successor_of_a_static_member() -> None:
    group = ConsumerDriver(m.GroupLimits(max_size=1))
    group.leave_as(group.join_as("a", instance_id="i"), -2)
    assert group.beat_as(Client("b", instance_id="i")) == "ok"


def test_an_instance_id_is_that_of_the_last_join() -> None:
    group = ConsumerDriver()
    a = group.join_as("a")
    assert code_of(group.say("a", a.epoch, instance_id="i")) == "UNKNOWN_MEMBER_ID"
    for instance in ("i", "j"):
        a.instance_id = instance
        assert group.begin_anew(a) == "ok"
        assert group.consumers.instances == {instance: "a"}


def test_an_administrator_takes_members_out_by_instance_id() -> None:
    group = ConsumerDriver()
    group.join_as("a", instance_id="i")
    b = group.join_as("b")
    assert group.leave(m.Leaver("", "i"), m.Leaver("b"), m.Leaver("x"), m.Leaver("", "j")) == [
        "ok",
        "ok",
        "UNKNOWN_MEMBER_ID",
        "UNKNOWN_MEMBER_ID",
    ]
    assert group.beat_as(b) == "UNKNOWN_MEMBER_ID"


# -- topics --------------------------------------------------------------------------------------------------------------


def test_a_topic_that_grows_is_shared_out_anew() -> None:
    group = ConsumerDriver(orders=2)
    a, b = group.join_as("a"), group.join_as("b")
    group.settle_all(a, b)
    group.topics.grow("orders", 6)
    group.settle_all(a, b)
    assert len(a.reading) == len(b.reading) == 3


def test_a_pattern_finds_topics_that_are_made_later() -> None:
    group = ConsumerDriver(orders=1, payments=1)
    a = group.join_as("a", topics=(), pattern="orders.*")
    assert a.reading == orders(0)
    group.topics.create("orders-eu", 1)
    group.settle_all(a)
    assert {at.topic for at in a.reading} == {"orders", "orders-eu"}


def test_a_topic_that_is_made_anew_is_told_anew_although_its_partitions_have_the_same_names() -> None:
    group = ConsumerDriver(orders=2)
    group.join_as("a")
    group.topics.create("orders", 2)
    reply = group.say("a", 1, owned=NONE)
    assert isinstance(reply, Beaten)
    assert frozenset(reply.assignment or ()) == orders(0, 1)
    assert reply.epoch == 2


def test_a_topic_that_is_gone_is_nobodys() -> None:
    group = ConsumerDriver(orders=2, other=2)
    a = group.join_as("a", topics=("orders", "other"))
    del group.topics.topics["other"]
    reply = group.say("a", a.epoch, owned=orders(0, 1))
    assert isinstance(reply, Beaten)
    assert frozenset(reply.assignment or ()) == orders(0, 1)


def test_a_member_may_change_its_mind() -> None:
    group = ConsumerDriver(orders=2, other=2)
    a = group.join_as("a", topics=("orders",), pattern="other")
    assert len(a.reading) == 4
    a.pattern, a.must_say_all = "", True
    group.settle_all(a)
    assert a.reading == orders(0, 1)


def test_the_assignor_most_members_want_is_used() -> None:
    group = ConsumerDriver(orders=2)
    clients = [group.join_as(name, assignor=wanted) for name, wanted in [("a", "range"), ("b", None), ("c", "range")]]
    group.settle_all(*clients)
    assert group.consumers.assignor == "range"


# -- restarts and the end ------------------------------------------------------------------------------------------------


def test_after_a_restart_every_member_has_a_full_session_and_goes_on() -> None:
    group = ConsumerDriver(orders=4)
    a, b = group.join_as("a"), group.join_as("b")
    group.settle_all(a, b)
    group.advance(40_000)
    group.restart()
    group.advance(44_000)
    before = group.consumers.epoch
    assert group.beat_as(a) == group.beat_as(b) == "ok"
    assert group.consumers.epoch == before
    assert (len(a.reading), len(b.reading)) == (2, 2)


def test_after_a_restart_who_has_to_give_up_partitions_has_the_full_time_for_it() -> None:
    group = ConsumerDriver(orders=4)
    a = Client("a")
    group.beat_as(a, rebalance_ms=10_000)
    group.join_as("b")
    group.beat_as(a)
    group.advance(9_000)
    group.restart()
    group.advance(9_000)
    assert group.beat_as(a) == "ok"
    group.advance(1_000)
    assert group.beat_as(a) == "UNKNOWN_MEMBER_ID"


def test_after_a_restart_the_silent_are_out_in_time() -> None:
    group = ConsumerDriver(orders=4)
    a = group.join_as("a")
    group.restart()
    group.advance(45_000)
    assert group.beat_as(a) == "UNKNOWN_MEMBER_ID"


def test_an_empty_group_without_offsets_is_forgotten() -> None:
    group = ConsumerDriver(m.GroupLimits(idle_group_ms=1_000))
    a = group.join_as("a")
    group.leave_as(a)
    assert not group.group.is_vacant
    group.advance(1_000)
    assert group.group.is_vacant


def test_a_group_with_members_is_not_deleted() -> None:
    group = ConsumerDriver()
    a = group.join_as("a")
    assert code_of(group.send(m.DeleteGroup())) == "NON_EMPTY_GROUP"
    group.leave_as(a)
    assert code_of(group.send(m.DeleteGroup())) == "ok"
    assert group.group.is_vacant


# -- both protocols ------------------------------------------------------------------------------------------------------


def test_an_empty_group_takes_up_the_other_protocol_and_back_and_numbers_never_fall() -> None:
    group = ConsumerDriver()
    (member,) = group.form(1)
    generation = group.group.soft.generation
    group.leave(m.Leaver(member))
    a = group.join_as("a")
    assert a.epoch > generation
    group.leave_as(a)
    epoch = group.consumers.epoch
    group.restart()
    group.form(1)
    assert group.group.soft.generation > epoch
    assert group.group.hard.consumer is None
    group.restart()
    assert group.group.hard.consumer is None


def test_a_join_that_is_refused_leaves_the_protocol_as_it_is() -> None:
    group = ConsumerDriver()
    group.leave_as(group.join_as("a"))
    _, reply = group.start_join(session_ms=1)
    assert isinstance(reply, LogbrokerError)
    assert group.group.hard.consumer is not None


def test_the_view_shows_epochs_and_assignments() -> None:
    group = ConsumerDriver(orders=2)
    group.join_as("a")
    group.join_as("b", pattern="o.*", topics=())
    view = group.group.view()
    assert (view.kind, view.state, view.generation) == (m.GroupKind.CONSUMER, m.GroupState.RECONCILING, 2)
    assert view.consumer is not None
    assert view.consumer.assignment_epoch == 2
    first, second = (member.consumer for member in view.members)
    assert first is not None
    assert second is not None
    assert (first.epoch, len(first.owned), len(first.target)) == (1, 2, 1)
    assert (second.epoch, len(second.owned), len(second.target), second.pattern) == (2, 0, 1, "o.*")
