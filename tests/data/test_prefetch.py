import threading
import time

import pytest

from hcmoco.data.prefetch import prefetch_map
from tests.helpers.waiting import wait_until


def threads_alive() -> int:
    return sum(each.name.startswith("ahead") for each in threading.enumerate())


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("ahead", [1, 4])
def test_results_come_in_order_however_long_each_takes(threads, ahead):
    def slow(number: int) -> int:
        time.sleep(0.01 if number % 3 == 0 else 0)
        return number * number

    assert list(prefetch_map(slow, range(20), threads=threads, ahead=ahead)) == [
        number * number for number in range(20)
    ]
    assert list(prefetch_map(slow, [], threads=threads, ahead=ahead)) == []


def test_it_stays_ahead_but_no_further_than_asked():
    drawn, done = [], []

    def items():
        for number in range(100):
            drawn.append(number)
            yield number

    results = prefetch_map(lambda number: done.append(number) or number, items(), threads=2, ahead=5)
    assert next(results) == 0
    wait_until(lambda: len(done) == 6)  # works without a request
    time.sleep(0.05)
    assert (len(drawn), len(done)) == (6, 6)
    results.close()


def test_an_error_of_the_function_comes_at_its_place():
    def fails(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    results = prefetch_map(fails, range(10), threads=2, ahead=8)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


@pytest.mark.parametrize("place", [0, 2, 7])
def test_an_error_of_the_items_comes_at_its_place(place):
    def items():
        for number in range(10):
            if number == place:
                raise OSError("the disk")
            yield number

    results = prefetch_map(lambda number: number, items(), threads=2, ahead=4)
    assert [next(results) for _ in range(place)] == list(range(place))
    with pytest.raises(OSError, match="the disk"):
        next(results)


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_closing_early_ends_the_threads_and_the_source(taken):
    before = threads_alive()
    closed = threading.Event()

    def items():
        try:
            yield from range(1000)
        finally:
            closed.set()

    inner = prefetch_map(lambda number: number + 1, items(), threads=2, ahead=3)
    outer = prefetch_map(lambda number: number * 2, inner, threads=2, ahead=3)
    del inner
    assert [next(outer) for _ in range(taken)] == [2, 4, 6, 8][:taken]
    outer.close()
    del outer
    wait_until(lambda: threads_alive() == before)
    assert closed.is_set() or taken == 0
