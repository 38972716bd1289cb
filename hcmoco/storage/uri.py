"""Parse and join URIs.

    s3://bucket/run?endpoint_override=minio:9000&scheme=http
    ^scheme ^authority ^path   ^query

The query belongs to the store, so a child's URI keeps it at its end. The path of such a URI is percent-encoded, the
names that are joined to it are not. A local path is never parsed: `?`, `%` and `#` are characters of its names.
"""

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

# Arrow has its own clients for these; everything else is asked of fsspec.
ARROW_SCHEMES = frozenset({"s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss"})
# Elsewhere fsspec takes a question mark as a character of a name.
_WITH_QUERY = ARROW_SCHEMES | {"http", "https"}
_UNQUOTED = "/+=@,:~!$'()*;"


class Parts(NamedTuple):
    """A URI that is not local; `path` begins with a slash or is empty, `query` has no question mark."""

    scheme: str
    authority: str
    path: str
    query: str

    @property
    def encoded(self) -> bool:
        """Whether the path is percent-encoded and a query is possible."""
        return self.scheme in _WITH_QUERY

    @property
    def text(self) -> str:
        """The URI again."""
        return f"{self.scheme}://{self.authority}{self.path}" + (f"?{self.query}" if self.query else "")


def is_local(uri: str) -> bool:
    """Return whether `uri` means the disk of the machine that opens it."""
    return "://" not in uri or uri.startswith(("file://", "local://"))


def parse(uri: str) -> Parts:
    """Parse a URI that is not local; slashes at the end of its path are dropped."""
    scheme, _, rest = uri.partition("://")
    scheme = scheme.lower()
    query = ""
    if scheme in _WITH_QUERY:
        rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    return Parts(scheme, authority, (slash + path).rstrip("/"), query)


def absolute(uri: str) -> str:
    """Return `uri` in one form, a local path made absolute: what another process may be given."""
    if is_local(uri):
        return os.path.abspath(os.path.expanduser(uri.partition("://")[2] if "://" in uri else uri))
    return parse(uri).text


def join(uri: str, *names: str) -> str:
    """Return the URI of what lies below `uri`.

    Args:
        uri: folder, a path or a URI.
        names: of folders or of a file, as they are; `/` separates.
    """
    below = "/".join(names)
    if is_local(uri):
        return f"{uri.rstrip('/')}/{below}"
    parts = parse(uri)
    path = f"{parts.path}/{quote(below, safe=_UNQUOTED) if parts.encoded else below}"
    return parts._replace(path=path).text


def split_file(uri: str) -> tuple[str, str]:
    """Return the folder of a file, and its name in it."""
    if is_local(uri):
        return os.path.split(absolute(uri))
    parts = parse(uri)
    above, _, name = parts.path.rpartition("/")
    return parts._replace(path=above).text, unquote(name) if parts.encoded else name


def base_name(uri: str) -> str:
    """Return the last name in the path of `uri`; that of the bucket where the path is empty."""
    return split_file(uri)[1] or ("" if is_local(uri) else parse(uri).authority)


def existing_parent(path: str | Path) -> Path:
    """Return the nearest folder at or above a local path that exists: the disk that the path will be on."""
    parent = Path(path)
    while not parent.exists():
        parent = parent.parent
    return parent
