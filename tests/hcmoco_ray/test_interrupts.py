import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from hcmoco.errors import UserError
from hcmoco_ray.cluster import entrypoint, interrupts
from tests.helpers.ending import interrupt_this_process


def test_a_swallowed_interrupt_comes_up_at_the_next_check():
    def work():
        with interrupts.handle_signals():
            interrupts.raise_if_interrupted()
            with suppress(KeyboardInterrupt):  # as compiled code does
                interrupt_this_process()
            interrupts.raise_if_interrupted()

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.getsignal(signal.SIGINT) is before
    interrupts.raise_if_interrupted()


def test_a_handler_that_someone_else_leaves_behind_is_replaced_and_its_exit_is_an_interrupt():
    """What Ray Train does."""

    def leave(number, frame):
        raise SystemExit(0)

    def work():
        with interrupts.handle_signals(), interrupts.kept():
            signal.signal(signal.SIGINT, leave)
            interrupt_this_process()

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_go_without():
    ended = []

    def run():
        with interrupts.handle_signals():
            ended.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ended == [True]


def test_an_interrupt_while_a_mistake_is_told_is_no_traceback(capsys):
    class ToldError(UserError):
        def __str__(self):
            interrupt_this_process()
            return "told"

    @entrypoint.main_wrapper
    def main():
        raise ToldError

    before = signal.getsignal(signal.SIGINT)
    assert main() == 128 + signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopped; " in capsys.readouterr().err
    interrupts.raise_if_interrupted()


SAID = "stopped; the same command resumes from what is saved"
ENDS_AS_IT_LEAVES = """
import os, signal, sys
from hcmoco_ray.cluster import entrypoint, interrupts

interrupts.listen()
restore = signal.signal


def late(number, handler):
    restore(number, handler)
    seen.append(number)
    if len(seen) == 4:  # three handlers are set as the block starts; this is the first that is given back
        os.kill(os.getpid(), signal.SIGTERM)


seen = []
signal.signal = late
sys.exit(entrypoint.main_wrapper(lambda: 0)())
"""


def test_a_signal_as_a_program_leaves_its_block_ends_it_with_one_line():
    ran = subprocess.run(
        [sys.executable, "-c", ENDS_AS_IT_LEAVES], capture_output=True, text=True, timeout=240, check=False
    )
    assert (ran.returncode, ran.stderr.strip()) == (128 + signal.SIGTERM, SAID)


TAKEN_BY_SOMEONE_ELSE = """
import os, signal, sys, time
from hcmoco_ray.cluster import entrypoint, interrupts

interrupts.listen()


def main():
    with interrupts.kept():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)


sys.exit(entrypoint.main_wrapper(main)())
"""


@pytest.mark.parametrize("repeat", range(5))
def test_a_signal_that_someone_elses_handler_takes_is_the_status(repeat):
    """As Ray's does while it starts."""
    ran = subprocess.run(
        [sys.executable, "-c", TAKEN_BY_SOMEONE_ELSE], capture_output=True, text=True, timeout=240, check=False
    )
    assert (ran.returncode, ran.stderr.strip()) == (128 + signal.SIGTERM, SAID)
