"""`... | head`: where nobody reads what a program prints, it ends without a word, and with the status of its signal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hcmoco_ray import cli
from hcmoco_ray.unread_output import STATUS, end_quietly

ROOT = Path(__file__).parents[2]
# Each program in a process of its own, forked from one that has imported them all. What it prints goes to a pipe that
# nobody reads; what it says on stderr comes back.
DRIVER = """
import importlib, os, sys
from hcmoco_ray import cli
for name in cli.PROGRAMS:
    importlib.import_module(f"hcmoco_ray.commands.{name}")
for arguments in [[name, "--help"] for name in cli.PROGRAMS] + [["--help"], *map(str.split, sys.argv[1:])]:
    child = os.fork()
    if not child:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        sys.argv[0] = arguments[0]
        sys.exit(cli.run_command(arguments))
    print(*arguments, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_no_program_minds_that_its_output_is_not_read(tmp_path):
    (tmp_path / "people.jsonl").write_text('{"rgb": "a.png"}\n')
    check = f"prepare folder --path {tmp_path} --check"
    for unbuffered in ("", "1"):
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, check],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            capture_output=True,
            text=True,
        )
        assert all(line.startswith("error: folder: 1 of what") for line in done.stderr.splitlines())
        statuses = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
        assert len(statuses) == len(cli.PROGRAMS) + 2
        assert statuses[check] == str(STATUS)
        # argparse swallows the error of --help where it meets it first.
        assert set(statuses.values()) <= {str(STATUS), "0"} if unbuffered else {str(STATUS)}


@pytest.mark.parametrize("broken", ["stdout", "stderr"])
def test_a_line_of_error_that_nobody_reads(tmp_path, broken):
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, broken: writer}
    done = subprocess.run(
        [sys.executable, "-m", "hcmoco_ray", "report", str(tmp_path / "absent")], cwd=ROOT, text=True, **streams
    )
    os.close(writer)
    if broken == "stderr":
        assert done.returncode == STATUS
        assert done.stdout == ""
    else:
        assert done.returncode == 2  # it has nothing to print there
        assert "does not exist" in done.stderr


def test_the_broken_connection_of_something_else_is_not_hidden():
    def program() -> int:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        end_quietly(program)
    assert end_quietly(lambda: 3) == 3
