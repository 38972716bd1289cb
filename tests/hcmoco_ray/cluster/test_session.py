import contextlib
import errno
import os
import subprocess
import sys
import time

import pytest

from hcmoco.errors import UserError
from hcmoco_ray.cluster import entrypoint, session


def test_start_joins_what_runs_and_says_what_it_is(ray_session):
    assert session.connect(num_cpus=64) == ray_session == session.Cluster(nodes=1)


def test_a_mistake_inside_a_task_is_one_line(ray_session, capsys):
    import ray

    def task():
        raise UserError("disk /x is full; make room")

    @ray.remote
    def nested():
        return ray.get(ray.remote(task).remote())

    for call in (ray.remote(task), nested):
        assert entrypoint.main_wrapper(lambda call=call: ray.get(call.remote()))() == 2
        assert capsys.readouterr().err == "error: disk /x is full; make room\n"


def test_a_bug_keeps_its_traceback(ray_session):
    import ray

    def bug():
        raise ZeroDivisionError("bug")

    with pytest.raises(ZeroDivisionError):
        entrypoint.main_wrapper(lambda: ray.get(ray.remote(bug).remote()))()


def test_a_canceled_task_leaves_its_process_able_to_import(ray_session):
    import ray

    @ray.remote
    def process() -> int:
        return os.getpid()

    @ray.remote
    def imports():
        import pandas  # noqa: F401

    @ray.remote
    def has_it_whole() -> tuple[int, bool]:
        import pandas

        return os.getpid(), hasattr(pandas, "core")

    for delay in (0.01, 0.05, 0.1):  # an import takes 0.3 s
        own = {"runtime_env": {"env_vars": {"A_PROCESS_OF_ITS_OWN": str(delay)}}}
        fresh = ray.get(process.options(**own).remote())
        running = imports.options(**own).remote()
        time.sleep(delay)
        ray.cancel(running)
        with contextlib.suppress(ray.exceptions.TaskCancelledError):
            ray.get(running)
        assert ray.get(has_it_whole.options(**own).remote()) == (fresh, True)


def test_exit_statuses(capsys):
    def failing(error):
        def main():
            raise error

        return entrypoint.main_wrapper(main)()

    assert entrypoint.main_wrapper(lambda: None)() == 0
    assert entrypoint.main_wrapper(lambda: 1)() == 1
    assert failing(KeyboardInterrupt()) == 130
    assert failing(OSError(errno.ENOSPC, "No space left on device", "/x")) == 2
    assert "error: [Errno 28] No space left on device: '/x'" in capsys.readouterr().err
    with pytest.raises(OSError, match="weird"):
        failing(OSError("weird"))
    wrapped = RuntimeError("workers failed")
    wrapped.worker_failures = {0: None, 1: UserError("worker line")}
    assert failing(wrapped) == 2
    assert capsys.readouterr().err == "error: worker line\n"


def test_ray_is_not_imported_before_it_is_needed():
    code = (
        "import sys, hcmoco_ray.commands.prepare, hcmoco_ray.prepare.run; "
        "sys.exit('ray' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_cluster_at_the_address():
    code = (
        "import os; os.environ['RAY_ADDRESS'] = '127.0.0.1:1'\n"
        "from hcmoco_ray.cluster import entrypoint, session\n"
        "raise SystemExit(entrypoint.main_wrapper(lambda: session.connect() and 0)())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    before, error = done.stderr.strip().splitlines()
    assert before == "joining the Ray cluster at 127.0.0.1:1"  # nothing waits in silence
    assert error.startswith("error: no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1")
