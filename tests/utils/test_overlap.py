"""Work ahead and behind: in order, at most so much of it waiting, and no error is lost."""

import threading

import pytest

from utils.overlap import Behind, ahead


def test_items_come_in_order_and_not_too_far_ahead():
    made, most = [], 0

    def items():
        for i in range(20):
            made.append(i)
            yield i

    for number, item in enumerate(ahead(items(), 3)):
        assert item == number
        most = max(most, len(made) - number)
    assert made == list(range(20)) and most <= 4


def test_an_item_is_made_while_the_one_before_is_used():
    used, made = threading.Event(), threading.Event()

    def items():
        yield 1
        made.set()
        used.wait(5)
        yield 2

    iterator = ahead(items())
    assert next(iterator) == 1 and made.wait(5)
    used.set()
    assert list(iterator) == [2]


def test_an_error_comes_in_its_place():
    def items():
        yield 1
        raise ValueError("the second")

    iterator = ahead(items())
    assert next(iterator) == 1
    with pytest.raises(ValueError, match="the second"):
        next(iterator)


def test_calls_are_made_in_order_by_the_end():
    done = []
    with Behind() as behind:
        for i in range(20):
            behind(done.append, i)
    assert done == list(range(20))


def test_only_so_many_calls_wait():
    gate, waiting = threading.Event(), []
    with Behind(depth=2) as behind:
        behind(gate.wait, 5), behind(waiting.append, 1)
        third = threading.Thread(target=lambda: behind(waiting.append, 2))
        third.start()
        third.join(0.1)
        assert third.is_alive() and not waiting
        gate.set()
        third.join(5)
    assert waiting == [1, 2]


def test_the_error_of_a_call_is_its_futures():
    def fail():
        raise OSError("disk full")

    with Behind() as behind:
        future, other = behind(fail), behind(lambda: "done")
    assert other.result() == "done"
    with pytest.raises(OSError, match="disk full"):
        future.result()
