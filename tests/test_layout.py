"""Arrows point one way: the method knows no cluster, and every module of it imports alone."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Modules that need what only a development machine has.
DEVELOPMENT = {"hcmoco.synthetic.body.build.asset", "hcmoco.synthetic.body.build.mesh"}

PROGRAM = """
import importlib, sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "mlflow", "hcmoco_ray"}:
            raise ImportError(f"hcmoco imports {name}")

sys.meta_path.insert(0, Refused())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def modules() -> list[str]:
    files = sorted((ROOT / "hcmoco").rglob("*.py"))
    names = [".".join(each.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for each in files]
    return [name for name in names if name not in DEVELOPMENT]


def test_the_method_imports_neither_ray_nor_mlflow():
    done = subprocess.run([sys.executable, "-c", PROGRAM, *modules()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_refusal_works():
    done = subprocess.run([sys.executable, "-c", PROGRAM, "ray"], cwd=ROOT, capture_output=True, text=True)
    assert "hcmoco imports ray" in done.stderr


@pytest.mark.parametrize("words", [("pickle.load", "pickle.loads"), ("allow_pickle=True",), ("yaml.load(",)])
def test_nothing_is_unpickled(words):
    folders = ("hcmoco", "hcmoco_ray")
    lines = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for folder in folders
        for file in sorted((ROOT / folder).rglob("*.py"))
        for line in file.read_text().splitlines()
        if any(word in line for word in words)
    ]
    assert not lines
