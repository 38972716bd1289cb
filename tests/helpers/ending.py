"""A Ctrl-C or SIGTERM ends the test run at once, and with it whatever the tests have started. Hooks of conftest.py."""

import os
import signal
from contextlib import ExitStack

import psutil

from hcmoco_ray.cluster import interrupts

GRACE_S = 4.0
_announced: list[int] = []
_session: list = []


def interrupt_this_process() -> None:
    """A Ctrl-C that is meant for the program under test, in this process, and not for the test run."""
    _announced.append(signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)


def pytest_configure(config):
    controller = config.pluginmanager.hasplugin("dsession")

    def meant(number: int) -> bool:
        if number in _announced:
            _announced.remove(number)
            return False
        for each in _session:
            each.shouldstop = signal.Signals(number).name  # where a program under test has taken the KeyboardInterrupt
        for each in psutil.Process().children() if controller else ():
            each.send_signal(signal.SIGTERM)
        return True

    # Workers have the shorter time: they close what they have started before their controller ends.
    interrupts.listen(meant, grace=GRACE_S + 2 * controller, quiet=True)
    stack = ExitStack()
    stack.enter_context(interrupts.heard())
    config.add_cleanup(stack.close)


def pytest_sessionstart(session):
    _session.append(session)
