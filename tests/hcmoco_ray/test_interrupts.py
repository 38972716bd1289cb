import signal
import threading
from contextlib import suppress

import pytest

from hcmoco_ray.cluster import interrupts
from tests.helpers.ending import interrupt_this_process


def test_a_swallowed_interrupt_comes_up_at_the_next_check():
    def work():
        with interrupts.heard():
            interrupts.check()
            with suppress(KeyboardInterrupt):  # as compiled code does
                interrupt_this_process()
            interrupts.check()

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.getsignal(signal.SIGINT) is before
    interrupts.check()


def test_a_handler_that_someone_else_leaves_behind_is_replaced_and_its_exit_is_an_interrupt():
    """What Ray Train does."""

    def leave(number, frame):
        raise SystemExit(0)

    def work():
        with interrupts.heard(), interrupts.kept():
            signal.signal(signal.SIGINT, leave)
            interrupt_this_process()

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_go_without():
    ended = []

    def run():
        with interrupts.heard():
            ended.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ended == [True]
