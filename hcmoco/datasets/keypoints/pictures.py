"""Find the picture that a tool's file means, by its name."""

from pathlib import Path

from hcmoco.datasets.io.pictures import SUFFIXES, picture_names
from hcmoco.errors import UserError


class Pictures:
    """The pictures in a folder and its sub-folders."""

    def __init__(self, folder: Path, option: str = "--images"):
        if not folder.is_dir():
            raise UserError(f"{option} {folder} is not a folder; give the folder of the pictures")
        self.folder = folder
        self.names = picture_names(folder)
        if not self.names:
            raise UserError(f"{option} {folder} holds no {', '.join(SUFFIXES)} file; give the folder of the pictures")
        self._all = frozenset(self.names)
        self._by: dict[str, list[str]] = {}
        for name in self.names:
            path = Path(name)
            for key in {name, path.name, path.stem, path.with_suffix("").as_posix()}:
                self._by.setdefault(key, []).append(name)

    def find(self, name: str) -> str:
        """Return the path, relative to the folder, of the picture `name`: a path, a file's name, or one without suffix.

        Raises:
            ValueError: there is none, or more than one.
        """
        key = name.replace("\\", "/")
        for each in (key, Path(key).name):  # tools write the path that they were given
            found = [key] if each == key and key in self._all else self._by.get(each, [])
            if len(found) == 1:
                return found[0]
            if found:
                raise ValueError(f"the name {name!r} fits several pictures: {', '.join(found[:3])}; rename them")
        raise ValueError(f"its picture {name!r} does not exist in {self.folder}")
