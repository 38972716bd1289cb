"""An environment of this one's packages, with a PyTorch that is another version by all that it says of itself."""

import re
import shutil
import sys
import sysconfig
from pathlib import Path

import torch

VERSION = "2.14.1"

_RAY = """#!{python}
import sys
from ray.scripts.scripts import main
sys.argv[0] = "ray"
sys.exit(main())
"""


def make_environment(folder: Path) -> Path:
    """Makes a virtual environment in a new folder and returns its `bin`, which has `python` and `ray`.

    Every package is a link to this environment's. Only PyTorch's package is a folder of its own: its files are links,
    but for the one that holds its version. Its metadata are those of that version.
    """
    packages = Path(sysconfig.get_paths()["purelib"])
    own = folder / packages.relative_to(sys.prefix)
    own.mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (folder / "bin" / "ray").write_text(_RAY.format(python=folder / "bin" / "python"))
    (folder / "bin" / "ray").chmod(0o755)
    for each in packages.iterdir():
        if each.name != "torch" and not each.name.startswith("torch-"):
            (own / each.name).symlink_to(each)
    package = Path(torch.__file__).parent
    (own / "torch").mkdir()
    for each in package.iterdir():
        if each.name not in ("version.py", "__pycache__"):
            (own / "torch" / each.name).symlink_to(each)
    text = (package / "version.py").read_text()
    (own / "torch" / "version.py").write_text(
        re.sub(r"^__version__ = .*$", f"__version__ = {VERSION!r}", text, flags=re.M)
    )
    (metadata,) = packages.glob("torch-*.dist-info")
    of_other = own / f"torch-{VERSION}.dist-info"
    shutil.copytree(metadata, of_other)  # whole: PyTorch finds its own backends by its entry points
    said = re.compile(r"^Version: .*$", re.MULTILINE)
    text = (metadata / "METADATA").read_text()
    (of_other / "METADATA").write_text(said.sub(f"Version: {VERSION}", text, count=1))
    return folder / "bin"
