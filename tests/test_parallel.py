"""Work on threads: results in order, errors the same whatever the threads, nested work, interruption."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from generator.parallel import spread


@pytest.fixture(params=[1, 2, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_are_in_the_order_of_the_items(threads: int) -> None:
    told: list[int] = []
    here = threading.current_thread()

    def done(number: int) -> None:
        assert threading.current_thread() is here
        told.append(number)

    assert spread(lambda n: (time.sleep(0.001 * (n % 3)), n * n)[1], range(20), done) == [n * n for n in range(20)]
    assert told == list(range(1, 21))
    assert spread(abs, []) == []
    assert torch.get_num_threads() == threads


def test_products_use_one_thread_meanwhile(threads: int) -> None:
    assert set(spread(lambda _: torch.get_num_threads(), range(8))) == {1}
    assert torch.get_num_threads() == threads


def test_items_may_spread_their_own_work(threads: int) -> None:
    used: set[int] = set()

    def inner(n: int) -> int:
        used.add(threading.get_ident())
        time.sleep(0.01)
        return n

    def outer(n: int) -> int:
        return sum(spread(inner, range(n)))

    assert spread(outer, [9, 5, 3, 1, 0]) == [36, 10, 3, 0, 0]
    assert len(used) == threads
    used.clear()
    assert spread(outer, [20]) == [190]
    assert len(used) == threads  # idle threads help


def test_the_first_error_in_order_is_raised(threads: int) -> None:
    begun: list[int] = []

    def fail(n: int) -> int:
        begun.append(n)
        time.sleep(0.03 if n == 2 else 0.001)
        if n in (2, 3):
            raise ValueError(f"item {n}")
        return n

    with pytest.raises(ValueError, match="item 2"):
        spread(fail, range(100))
    assert len(begun) < 20
    assert torch.get_num_threads() == threads
    with pytest.raises(ValueError, match="item 3"):
        spread(lambda n: spread(fail, [n]), [1, 3, 4])


def test_what_a_listener_raises_ends_the_work(threads: int) -> None:
    begun: list[int] = []

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spread(lambda n: (begun.append(n), time.sleep(0.002)), range(100), stop)
    assert len(begun) < 20
    assert torch.get_num_threads() == threads
    assert spread(abs, [-1]) == [1]


def test_several_threads_may_spread_at_once(threads: int) -> None:
    found: list[list[int]] = []
    callers = [threading.Thread(target=lambda: found.append(spread(lambda n: n + 1, range(50)))) for _ in range(4)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert found == [list(range(1, 51))] * 4
    assert torch.get_num_threads() == threads
