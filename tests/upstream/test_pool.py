"""The pool: which connection carries a request, and how many there are."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.upstream.identity import key_for
from edge.upstream.pool import Pool
from tests.builders import endpoint, upstream

A = key_for(endpoint("http://a:80"), upstream())
B = key_for(endpoint("http://b:80"), upstream())


class Conn:
    """Opaque to the pool."""


def opened(pool: Pool[Conn], count: int = 1) -> list[Conn]:
    made = [Conn() for _ in range(count)]
    for conn in made:
        pool.begin(A)
        pool.opened(A, conn)
    return made


def test_nothing_to_take_at_first() -> None:
    pool: Pool[Conn] = Pool()
    assert pool.take(A, 0.0) is None
    assert pool.total(A) == pool.active(A) == 0
    assert pool.expire(1e9) == []


def test_the_one_used_last_is_taken_first() -> None:
    pool: Pool[Conn] = Pool()
    one, two = opened(pool, 2)
    pool.give(A, one, 1.0)
    pool.give(A, two, 2.0)
    assert pool.take(B, 3.0) is None
    assert pool.take(A, 3.0) is two
    assert pool.take(A, 3.0) is one
    assert pool.take(A, 3.0) is None


def test_one_whose_time_has_passed_is_never_taken() -> None:
    pool: Pool[Conn] = Pool(keepalive_timeout=10.0)
    one, two = opened(pool, 2)
    pool.give(A, one, 0.0)
    pool.give(A, two, 5.0)
    assert pool.expire(9.9) == []
    assert pool.take(A, 15.0) is None
    assert pool.total(A) == 2
    assert pool.active(A) == 0
    assert set(pool.expire(15.0)) == {one, two}
    assert pool.total(A) == 0


def test_expire_takes_out_what_is_old_and_leaves_the_rest() -> None:
    pool: Pool[Conn] = Pool(keepalive_timeout=10.0)
    one, two, busy = opened(pool, 3)
    pool.give(A, one, 0.0)
    pool.give(A, two, 5.0)
    assert pool.expire(10.0) == [one]
    assert pool.take(A, 10.0) is two
    assert pool.expire(1e9) == []
    assert pool.total(A) == 2
    assert pool.give(A, busy, 10.0) is None


def test_an_upstreams_own_timeout_counts_where_it_is_shorter() -> None:
    pool: Pool[Conn] = Pool(keepalive_timeout=10.0)
    long, short = opened(pool, 2)
    pool.give(A, long, 0.0, timeout=60.0)
    pool.give(A, short, 0.0, timeout=2.0)
    assert pool.take(A, 3.0) is long
    assert pool.expire(3.0) == [short]
    pool.give(A, long, 3.0, timeout=60.0)
    assert pool.expire(13.0) == [long]


def test_no_more_idle_ones_than_wanted() -> None:
    pool: Pool[Conn] = Pool(keepalive=2)
    one, two, three = opened(pool, 3)
    assert pool.give(A, one, 0.0) is None
    assert pool.give(A, two, 0.0) is None
    assert pool.give(A, three, 0.0) is one
    assert pool.total(A) == 2
    none: Pool[Conn] = Pool(keepalive=0)
    (conn,) = opened(none)
    assert none.give(A, conn, 0.0) is conn
    assert none.total(A) == 0


def test_counts_and_limits() -> None:
    pool: Pool[Conn] = Pool()
    assert pool.may_open(A, 1)
    pool.begin(A)
    assert not pool.may_open(A, 1)
    assert pool.may_open(A, None)
    assert pool.may_open(B, 1)
    pool.failed(A)
    assert pool.may_open(A, 1)
    (conn,) = opened(pool)
    assert (pool.total(A), pool.active(A)) == (1, 1)
    pool.give(A, conn, 0.0)
    assert (pool.total(A), pool.active(A)) == (1, 0)
    pool.remove(A, conn)
    assert pool.may_open(A, 1)


def test_remove_is_idempotent_and_final() -> None:
    pool: Pool[Conn] = Pool()
    conn, other, stale = opened(pool, 3)
    pool.give(A, conn, 0.0)
    pool.give(A, stale, 0.0, timeout=1.0)
    assert pool.take(A, 2.0) is conn
    pool.remove(A, conn)
    pool.remove(A, conn)
    pool.remove(A, stale)
    pool.remove(B, conn)
    assert pool.total(A) == 1
    assert pool.give(A, conn, 2.0) is conn, "a removed connection does not come back"
    assert pool.take(A, 2.0) is None
    assert pool.expire(1e9) == []
    pool.remove(A, other)
    assert pool.total(A) == 0


def test_clear_leaves_only_what_works() -> None:
    pool: Pool[Conn] = Pool()
    idle, busy = opened(pool, 2)
    pool.give(A, idle, 0.0)
    assert pool.clear() == [idle]
    assert pool.total(A) == 1
    pool.remove(A, busy)


# -- shared ----------------------------------------------------------------------------------------------------------------


def shared(pool: Pool[Conn], room: int, now: float = 0.0) -> Conn:
    conn = Conn()
    pool.begin(A)
    pool.share(A, conn, room, now)
    return conn


def test_a_shared_connection_is_taken_until_it_is_full() -> None:
    pool: Pool[Conn] = Pool()
    conn = shared(pool, 2)
    assert pool.take(A, 0.0) is conn
    assert pool.take(A, 0.0) is None
    assert pool.give(A, conn, 0.0) is None
    assert pool.take(A, 0.0) is conn
    assert (pool.total(A), pool.active(A)) == (1, 1)


def test_a_shared_connection_grows_old_only_when_it_carries_nothing() -> None:
    pool: Pool[Conn] = Pool(keepalive_timeout=10.0)
    conn = shared(pool, 2)
    assert pool.expire(100.0) == []
    assert pool.take(A, 100.0) is conn
    pool.give(A, conn, 100.0)
    pool.give(A, conn, 101.0)
    assert pool.active(A) == 0
    assert pool.take(A, 111.0) is None
    assert pool.expire(110.9) == []
    assert pool.expire(111.0) == [conn]
    assert pool.total(A) == 0


def test_its_room_changes_with_its_peers_settings() -> None:
    pool: Pool[Conn] = Pool()
    conn = shared(pool, 1)
    pool.resize(A, conn, 2)
    assert pool.take(A, 0.0) is conn
    pool.resize(B, conn, 9)
    pool.resize(A, Conn(), 9)
    assert pool.take(A, 0.0) is None


def test_a_retired_connection_ends_with_its_last_request() -> None:
    pool: Pool[Conn] = Pool()
    conn = shared(pool, 10)
    assert pool.take(A, 0.0) is conn
    pool.resize(A, conn, 0)
    assert pool.take(A, 0.0) is None
    assert pool.give(A, conn, 0.0) is None
    assert pool.give(A, conn, 0.0) is conn
    assert pool.total(A) == 0
    idle = shared(pool, 10)
    pool.give(A, idle, 0.0)
    pool.resize(A, idle, 0)
    assert pool.expire(0.0) == [idle]


def test_a_shared_connection_that_breaks() -> None:
    pool: Pool[Conn] = Pool()
    conn, next_one = shared(pool, 1), shared(pool, 1)
    pool.remove(A, conn)
    pool.give(A, next_one, 0.0)
    assert pool.take(A, 0.0) is next_one
    assert pool.total(A) == 1


# -- against a model -------------------------------------------------------------------------------------------------------


class PoolMachine(RuleBasedStateMachine):
    """Random lives of connections; the model knows who holds what."""

    def __init__(self) -> None:
        super().__init__()
        self.pool: Pool[Conn] = Pool(keepalive=3, keepalive_timeout=10.0)
        self.now = 0.0
        self.taken: list[Conn] = []
        self.idle: dict[Conn, float] = {}  # deadline

    @rule(seconds=st.floats(0.1, 8.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def open(self) -> None:
        self.taken += opened(self.pool)

    @rule()
    def take(self) -> None:
        conn = self.pool.take(A, self.now)
        alive = [idle for idle, deadline in self.idle.items() if deadline > self.now]
        if conn is None:
            assert not alive
        else:
            assert conn is alive[-1]
            del self.idle[conn]
            self.taken.append(conn)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        conn = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        self.idle[conn] = self.now + 10.0
        closing = self.pool.give(A, conn, self.now)
        if closing is not None:
            del self.idle[closing]

    @precondition(lambda self: self.taken or self.idle)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        conn = data.draw(st.sampled_from([*self.taken, *self.idle]))
        self.pool.remove(A, conn)
        self.idle.pop(conn, None)
        if conn in self.taken:
            self.taken.remove(conn)

    @rule()
    def expire(self) -> None:
        expired = self.pool.expire(self.now)
        assert set(expired) == {conn for conn, deadline in self.idle.items() if deadline <= self.now}
        for conn in expired:
            del self.idle[conn]

    @invariant()
    def counts_agree(self) -> None:
        assert self.pool.total(A) == len(self.taken) + len(self.idle)
        assert self.pool.active(A) == len(self.taken)


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=40)
