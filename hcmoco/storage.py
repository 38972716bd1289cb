"""A folder at any URI that PyArrow or fsspec knows: a local path, file://, memory://, s3://, gs://, ..."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import fsspec
import pyarrow as pa
from pyarrow import fs as pafs

from hcmoco.errors import UserError

# Arrow has its own clients for these; everything else is asked of fsspec.
_ARROW_SCHEMES = {"s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss"}


def is_local(uri: str) -> bool:
    """Whether `uri` means the disk of the machine that opens it."""
    return "://" not in uri or uri.startswith(("file://", "local://"))


def absolute(uri: str) -> str:
    """`uri`, a local path made absolute: what another process may be given."""
    scheme, separator, rest = uri.partition("://")
    if is_local(uri):
        return os.path.abspath(os.path.expanduser(rest if separator else uri))
    return f"{scheme}://{rest.rstrip('/')}"


@lru_cache(maxsize=64)  # one client per folder and process: connecting to an object store is not free
def _connect(uri: str) -> tuple[pafs.FileSystem, str]:
    try:
        if not uri.partition("://")[2]:
            raise ValueError("it names no bucket or folder")
        if uri.partition("://")[0] in _ARROW_SCHEMES:
            return pafs.FileSystem.from_uri(uri)
        store, path = fsspec.core.url_to_fs(uri)
        return pafs.PyFileSystem(pafs.FSSpecHandler(store)), path
    except (OSError, ValueError, ImportError, pa.ArrowException) as error:
        raise UserError(
            f"storage {uri} cannot be opened: {first_line(error)}; give a path or a URI such as s3://bucket/folder"
        ) from None


@dataclass(frozen=True)
class Folder:
    """One folder; `name` below is a file name inside it, `/` separating subfolders."""

    uri: str

    @property
    def _store(self) -> tuple[pafs.FileSystem, str]:
        """File system and the folder's path on it."""
        place = absolute(self.uri)
        return (pafs.LocalFileSystem(), place) if is_local(place) else _connect(place)

    def _path(self, name: str) -> str:
        return f"{self._store[1]}/{name}"

    @property
    def local_path(self) -> Path:
        """The folder as a path; only where `is_local(uri)`."""
        return Path(self._store[1])

    def sizes(self, below: str = "") -> dict[str, int]:
        """Names and bytes of the files directly in the folder, or in its subfolder `below`; empty if there is no such folder."""
        store, path = self._store
        found = store.get_file_info(pafs.FileSelector(f"{path}/{below}".rstrip("/"), allow_not_found=True))
        return {info.base_name: info.size for info in found if info.is_file}

    def folders(self) -> list[str]:
        """Names of the folders directly inside, sorted; empty if the folder itself does not exist."""
        store, path = self._store
        found = store.get_file_info(pafs.FileSelector(path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == pafs.FileType.Directory)

    def exists(self, name: str) -> bool:
        return self._store[0].get_file_info(self._path(name)).is_file

    def open(self, name: str) -> pa.NativeFile:
        """`name` for reading at any position. Raises OSError (FileNotFoundError) as the file system does."""
        return self._store[0].open_input_file(self._path(name))

    def read(self, name: str) -> bytes:
        with self._store[0].open_input_stream(self._path(name)) as stream:
            return stream.read()

    def sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        with self._store[0].open_input_stream(self._path(name)) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    @contextmanager
    def replacing(self, name: str) -> Iterator[BinaryIO | pa.NativeFile]:
        """`name` for writing. On a local disk it appears complete, in one rename, or not at all.

        Object stores show an object only when its last byte is sent, so there it is written in place.
        """
        store, path = self._store[0], self._path(name)
        if not isinstance(store, pafs.LocalFileSystem):
            store.create_dir(os.path.dirname(path), recursive=True)
            with store.open_output_stream(path) as stream:
                yield stream
            return
        temporary = Path(f"{path}.writing-{os.getpid()}")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def write(self, name: str, data: bytes) -> None:
        with self.replacing(name) as file:
            file.write(data)

    def delete(self, name: str) -> None:
        if self.exists(name):
            self._store[0].delete_file(self._path(name))

    def delete_folder(self, name: str) -> None:
        if self._store[0].get_file_info(self._path(name)).type == pafs.FileType.Directory:
            self._store[0].delete_dir(self._path(name))


class HashingSink:
    """A file object for Arrow's writers that also digests and counts what passes through."""

    def __init__(self, file: BinaryIO | pa.NativeFile):
        self._file = file
        self._digest = hashlib.sha256()
        self.bytes = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._digest.update(data)
        self.bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True  # the file is closed by whoever opened it

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for use inside a one-line message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
