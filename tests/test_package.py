"""The wheel is complete: installed outside the checkout it runs, with its recipes; a script runs its own checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The content of the wheel, in a folder as an installation has it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("hcmoco-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(*arguments: str, path: Path, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run([sys.executable, *arguments], env=environment, cwd=cwd, capture_output=True, text=True)


def test_the_wheel_holds_what_the_programs_read(installed):
    inside = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    recipes = {
        f"hcmoco_ray/recipes/{path.relative_to(ROOT / 'recipes')}" for path in (ROOT / "recipes").rglob("*.yaml")
    }
    assert recipes
    assert recipes <= inside
    needed = {path for package in ("hcmoco", "hcmoco_ray") for path in (ROOT / package).rglob("*") if path.is_file()}
    missing = {str(path.relative_to(ROOT)) for path in needed if "__pycache__" not in path.parts} - inside
    assert not missing
    assert {"hcmoco/py.typed", "hcmoco_ray/py.typed"} <= inside
    assert not [name for name in inside if name.startswith(("pipelines/", "tuning/", "tests/", "recipes/"))]


def test_a_program_runs_from_the_wheel(installed, tmp_path):
    done = run("-m", "hcmoco_ray", "pretrain", "--help", path=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage: python -m hcmoco_ray pretrain" in done.stdout
    assert "people-cpu" in done.stdout
    done = run("-m", "hcmoco_ray", "pretrain", "optim.lr=-1", path=installed, cwd=tmp_path)
    assert (done.returncode, done.stderr[:25]) == (2, "error: recipe people-cpu:"), done.stderr


def test_the_wheel_installs_the_command(installed, tmp_path):
    from importlib.metadata import Distribution

    (info,) = installed.glob("*.dist-info")
    (command,) = Distribution.at(info).entry_points.select(group="console_scripts")
    script = tmp_path / command.name
    script.write_text(f"import sys\nfrom {command.module} import {command.attr}\nsys.exit({command.attr}())\n")
    done = run(str(script), "pretrain", "--help", path=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: hcmoco pretrain ")
    done = run(str(script), "pretrian", path=installed, cwd=tmp_path)
    assert done.stderr.startswith("'pretrian' is not a program: hcmoco prepare|pretrain|")


def test_a_name_that_is_no_program_is_one_line(tmp_path):
    done = run("-m", "hcmoco_ray", "pretrian", path=ROOT, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("'pretrian' is not a program: python -m hcmoco_ray prepare|pretrain|")


def test_a_script_runs_its_own_checkout_or_says_so(installed, tmp_path):
    script = str(ROOT / "pipelines" / "pretrain.py")
    done = run(script, "--help", path=installed, cwd=tmp_path)
    assert done.returncode == 2
    assert f"would run the packages of {installed}" in done.stderr
    # What the line says to do helps.
    assert f"PYTHONPATH={ROOT}" in done.stderr
    done = run(script, "--help", path=ROOT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
