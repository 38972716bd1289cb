"""One folder at any URI: list, read, write and delete the files in it."""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import pyarrow as pa
from pyarrow import fs as pafs

from hcmoco.errors import StorageError
from hcmoco.storage import client
from hcmoco.storage.uri import absolute, is_local, join, parse, split_file

T = TypeVar("T")
_CHECK = ".hcmoco-check-"
_NO_FOLDERS = {"s3", "gs", "gcs"}  # their names only look like paths
_WEB = {"http", "https"}  # lists nothing


@dataclass(frozen=True)
class Folder:
    """One folder; `name` below is a file name inside it, `/` separating subfolders.

    Every method raises StorageError where the folder is not local and its store does not answer, lacks the bucket or
    refuses the key. A local disk's errors are OSErrors.
    """

    uri: str

    @property
    def place(self) -> tuple[pafs.FileSystem, str]:
        """Arrow's file system, and the folder's path on it."""
        place = absolute(self.uri)
        return (pafs.LocalFileSystem(), place) if is_local(place) else client.connect(place)

    def _path(self, name: str) -> tuple[pafs.FileSystem, str]:
        store, path = self.place
        if not is_local(self.uri) and parse(self.uri).scheme in _WEB:
            return store, join(self.uri, name)  # fsspec's paths there are whole URLs
        return store, f"{path}/{name}"

    @property
    def local_path(self) -> Path:
        """The folder as a path; only where `is_local(uri)`."""
        return Path(self.place[1])

    def child(self, name: str) -> "Folder":
        """Return the folder `name` inside this one."""
        return Folder(join(self.uri, name))

    def sizes(self, below: str = "") -> dict[str, int]:
        """Names and bytes of the files directly in the folder, or in its subfolder `below`; empty if there is no such
        folder.
        """
        return {info.base_name: info.size for info in self._list(below) if info.is_file}

    def folders(self) -> list[str]:
        """Names of the folders directly inside, sorted; empty if the folder itself does not exist."""
        return sorted(info.base_name for info in self._list() if info.type == pafs.FileType.Directory)

    def _list(self, below: str = "") -> list[pafs.FileInfo]:
        if not is_local(self.uri) and parse(self.uri).scheme in _WEB:
            return []
        store, path = self.place
        selector = pafs.FileSelector(f"{path}/{below}".rstrip("/"), allow_not_found=True)
        found = self._ask(lambda: store.get_file_info(selector))
        return [info for info in found if not info.base_name.startswith(_CHECK)]

    def exists(self, name: str) -> bool:
        store, path = self._path(name)
        return self._ask(lambda: store.get_file_info(path).is_file)

    def open(self, name: str) -> pa.NativeFile:
        """`name` for reading at any position. Raises OSError (FileNotFoundError) as the file system does.

        What reads from it hands an error to `raise_if_unreachable`.
        """
        store, path = self._path(name)
        return self._ask(lambda: store.open_input_file(path))

    def read(self, name: str) -> bytes:
        store, path = self._path(name)

        def read() -> bytes:
            with store.open_input_stream(path) as stream:
                return stream.read()

        return self._ask(read)

    def sha256(self, name: str) -> str:
        store, path = self._path(name)

        def digest() -> str:
            found = hashlib.sha256()
            with store.open_input_stream(path) as stream:
                while block := stream.read(1 << 20):
                    found.update(block)
            return found.hexdigest()

        return self._ask(digest)

    @contextmanager
    def replacing(self, name: str) -> Iterator[BinaryIO | pa.NativeFile]:
        """`name` for writing. On a local disk it appears complete, in one rename, or not at all.

        Object stores show an object only when its last byte is sent, so there it is written in place.
        """
        store, path = self._path(name)
        if not isinstance(store, pafs.LocalFileSystem):
            with self._asking("cannot be written to"):
                if parse(self.uri).scheme not in _NO_FOLDERS:
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
        def write() -> None:
            with self.replacing(name) as file:
                file.write(data)

        self.patiently(write)

    def delete(self, name: str) -> None:
        if self.exists(name):
            store, path = self._path(name)

            def delete() -> None:
                with contextlib.suppress(FileNotFoundError):  # a first try may have done it
                    store.delete_file(path)

            self._ask(delete, "cannot be written to")

    def delete_folder(self, name: str) -> None:
        store, path = self._path(name)

        def delete() -> None:
            if store.get_file_info(path).type == pafs.FileType.Directory:
                store.delete_dir(path)

        self._ask(delete, "cannot be written to")

    def check_readable(self) -> None:
        """Check that the store of a folder that is not local answers. The folder need not exist.

        Raises:
            UserError: the URI is malformed, or no client knows its scheme.
            StorageError: the store does not answer, lacks the bucket or refuses the key.
        """
        if not is_local(self.uri):
            client.probe(self.uri, self.place[1])

    def check_writable(self) -> None:
        """Check that a folder that is not local takes a small file, gives it back and deletes it.

        Raises:
            UserError, StorageError: as `check_readable`.
        """
        if is_local(self.uri):
            return
        self.check_readable()
        name, data = f"{_CHECK}{uuid.uuid4().hex}", b"hcmoco"
        self.write(name, data)
        if self.read(name) != data:
            raise StorageError(f"storage {self.uri} does not give back what is written to it; give another URI")
        self.delete(name)

    def raise_if_unreachable(self, error: BaseException) -> None:
        """Raise StorageError if the store, and not the file, is the cause of an error while a file was read.

        Args:
            error: raised by a file that `open` returned, or by what reads it.
        """
        if is_local(self.uri) or not isinstance(error, client.FAILURES) or isinstance(error, FileNotFoundError):
            return
        if client.is_of_store(error):
            raise client.failure(self.uri, error) from None
        self.check_readable()

    def patiently(self, call: Callable[[], T]) -> T:
        """Return what `call` returns. If the store stops to answer meanwhile, wait a minute for it and call again.

        Args:
            call: uses this folder, and has the same effect a second time.
        """
        return call() if is_local(self.uri) else client.patiently(self.uri, self.place[1], call)

    def _ask(self, call: Callable[[], T], what: str = "") -> T:
        def once() -> T:
            with self._asking(what):
                return call()

        return self.patiently(once)

    @contextmanager
    def _asking(self, what: str = "") -> Iterator[None]:
        """Raise a failure of a store as StorageError; a missing file stays FileNotFoundError, unless it is written."""
        if is_local(self.uri):
            yield
            return
        try:
            yield
        except client.FAILURES as error:
            if isinstance(error, FileNotFoundError) and not what:
                raise
            raise client.failure(self.uri, error, what) from None


def read_file(uri: str) -> bytes:
    """Return the content of one file at any URI.

    Raises:
        OSError: the file does not exist or, on a local disk, cannot be read.
        UserError, StorageError: as `Folder.check_readable`.
    """
    folder, name = split_file(uri)
    return Folder(folder).read(name)


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
