"""Connect to the store behind a URI, and say in one line why it does not serve.

The first use of a store in a process asks it for a name that does not exist. That finds a missing bucket, which Arrow
else takes for an empty folder, and it takes seconds at most: Arrow's own client tries again for 100 seconds where a
store takes connections and does not answer.
"""

import os
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote

import fsspec
import pyarrow as pa
from pyarrow import fs as pafs

from hcmoco.credentials import advice, refuse_secret
from hcmoco.errors import StorageError, UserError, one_line
from hcmoco.masking import masked
from hcmoco.storage.uri import ARROW_SCHEMES, Parts, parse

T = TypeVar("T")
FAILURES = (OSError, pa.ArrowException)
_PROBE = ".hcmoco-probe"
_serving: set[str] = set()  # stores that have answered in this process
_PROBE_TRIES = 2  # of at most 3 seconds without a byte each
_GCS_SECONDS = 5
PATIENCE_S = 60.0
_PAUSE_S = 2.0
# Options of a URI that S3FileSystem takes as arguments too.
_S3_ARGUMENTS = ("endpoint_override", "scheme", "tls_ca_file_path")

# Parts of an error's text, what is wrong, what to do ("": as the scheme's credentials are given). Arrow passes on the
# store's own codes.
_REASONS = (
    (("NO_SUCH_BUCKET", "bucket does not exist", "ContainerNotFound"), "the bucket does not exist", "create it"),
    (
        (
            *("INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID", "UNRECOGNIZED_CLIENT"),
            *("InvalidAccessKeyId", "SignatureDoesNotMatch", "EXPIRED_TOKEN", "ExpiredToken", "UNAUTHENTICATED"),
        ),
        "the key is not accepted",
        "",
    ),
    (
        ("ACCESS_DENIED", "AccessDenied", "PERMISSION_DENIED", "AuthorizationPermissionMismatch", "FORBIDDEN"),
        "no permission",
        "use a key that may list, read, write and delete there",
    ),
    (
        ("curlCode: 60", "SSL peer certificate"),
        "this machine does not trust its certificate",
        "name the authority's file with ?tls_ca_file_path=, or in SSL_CERT_FILE on every node",
    ),
    (
        (
            "NETWORK_CONNECTION",
            "curlCode",
            "CURL error",
            "UNAVAILABLE",
            "SERVICE_UNAVAILABLE",
            "timed out",
            "SLOW_DOWN",
        ),
        "the store does not answer",
        "check its address and the network",
    ),
)


def connect(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of a URI that is not local, and the URI's path on it.

    Raises:
        UserError: the URI is malformed, holds a secret, or no client knows its scheme.
        StorageError: the store does not answer, lacks the bucket or refuses the key.
    """
    refuse_secret(uri)
    parts = parse(uri)
    if not parts.authority and not parts.path:
        raise _malformed(uri, ValueError("it names no bucket or folder"))
    root = _root(parts).text
    try:
        client, base = _client(root if parts.scheme in ARROW_SCHEMES else uri)
    except (ValueError, ImportError, pa.ArrowException) as error:
        raise _malformed(uri, error) from None
    except OSError as error:
        raise failure(uri, error) from None
    path = f"{base.rstrip('/')}{unquote(parts.path)}" if parts.scheme in ARROW_SCHEMES else base
    if root not in _serving:
        _make_bucket(uri, client)
        probe(uri, path)
        _serving.add(root)
    return client, path


def _make_bucket(uri: str, client: pafs.FileSystem) -> None:
    """Create the bucket of an S3 URI whose query allows it, unless it exists: Arrow does it only where it is asked."""
    parts = parse(uri)
    if parts.scheme == "s3" and parse_qs(parts.query).get("allow_bucket_creation", [""])[-1] == "true":
        try:
            client.create_dir(parts.authority)
        except OSError as error:
            raise failure(uri, error, "has no bucket, and none can be made") from None


def probe(uri: str, path: str) -> None:
    """Ask the store whether it serves; returns in seconds.

    Args:
        uri: of a folder; it need not exist.
        path: of that folder on the store.

    Raises:
        StorageError: it does not.
    """
    parts = parse(uri)
    if parts.scheme not in ARROW_SCHEMES:
        return
    try:
        _impatient(parts).get_file_info(pafs.FileSelector(f"{path}/{_PROBE}"))
    except FileNotFoundError:
        return
    except FAILURES as error:
        raise failure(uri, error) from None


@lru_cache(maxsize=64)
def _client(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return one client per bucket and process, since connecting is not free, and the path of `uri` on it."""
    if parse(uri).scheme in ARROW_SCHEMES:
        return pafs.FileSystem.from_uri(uri)
    store, path = fsspec.core.url_to_fs(uri)
    return pafs.PyFileSystem(pafs.FSSpecHandler(store)), path


def patiently(uri: str, path: str, call: Callable[[], T]) -> T:
    """Call, and once more if a store that has served this process stops to answer and does so again in time.

    Args:
        uri: of a folder.
        path: of that folder on the store.
        call: has the same effect a second time.

    Raises:
        StorageError: the store was away for longer than PATIENCE_S.
    """
    try:
        return call()
    except StorageError as error:
        if not error.passing or not PATIENCE_S:
            raise
        away = error
    print(
        f"storage {masked(uri)} does not answer; waiting up to {PATIENCE_S:.0f} s for it", file=sys.stderr, flush=True
    )
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
        try:
            probe(uri, path)
        except StorageError as error:
            if error.passing:
                continue
            raise
        return call()
    raise away


def _root(parts: Parts) -> Parts:
    return parts._replace(path="" if parts.authority else "/")  # hdfs:/// is the cluster's own


def _impatient(parts: Parts) -> pafs.FileSystem:
    """Return a client of the same store that gives up within seconds."""
    client, _ = _client(_root(parts).text)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if parts.scheme in ("gs", "gcs") and "retry_limit_seconds" not in options:
        query = "&".join(filter(None, [parts.query, f"retry_limit_seconds={_GCS_SECONDS}"]))
        return _client(_root(parts)._replace(query=query).text)[0]
    if parts.scheme != "s3" or not set(options) <= {*_S3_ARGUMENTS, "region", "allow_bucket_creation"}:
        return client
    arguments: dict[str, Any] = {name: options[name] for name in _S3_ARGUMENTS if name in options}
    if endpoint := endpoint_of(parts):
        arguments["endpoint_override"] = endpoint
    return pafs.S3FileSystem(
        region=client.region or None,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=_PROBE_TRIES),
        **arguments,
    )


def endpoint_of(parts: Parts) -> str:
    """Return the endpoint that an S3 URI or the environment names; "" if neither does, as for AWS itself."""
    own = parse_qs(parts.query).get("endpoint_override", [""])[-1]
    return own or os.environ.get("AWS_ENDPOINT_URL_S3", "") or os.environ.get("AWS_ENDPOINT_URL", "")


def failure(uri: str, error: BaseException, what: str = "") -> StorageError:
    """Return the error that says in one line why a store does not serve.

    Args:
        uri: of the folder that is used.
        error: of the client.
        what: what was tried, where that matters: "cannot be written to".
    """
    text, parts = str(error), parse(uri)
    tried = f" {what}" if what else ""
    named = f"storage {masked(uri)}{tried}"
    if "Bucket '" in text and "not found" in text:
        text = "NO_SUCH_BUCKET"
    for signs, wrong, do in _REASONS:
        if any(sign in text for sign in signs):
            if "bucket" in wrong:
                wrong = wrong.replace("bucket", f"bucket {parts.authority}")
            elif "answer" in wrong and parts.scheme == "s3":
                endpoint = endpoint_of(parts)
                wrong = f"{endpoint or 'AWS'} does not answer ({_network_reason(text)})"
            line = f"{named}: {wrong}; {do or advice(uri)}, then run the same command again"
            return StorageError(line, passing="answer" in wrong)
    return StorageError(
        f"{named}: {masked(one_line(error))}; check the URI and the store, then run the same command again"
    )


def is_of_store(error: BaseException) -> bool:
    """Return whether an error's text is a store's, and not about the content of a file."""
    return any(sign in str(error) for sign in ("AWS Error", "google::cloud::Status", "Azure"))


def _network_reason(text: str) -> str:
    """Return curl's words out of Arrow's text: "Could not connect to server"."""
    return text.partition("curlCode: ")[2].partition(", ")[2].partition(";")[0].strip() or "no connection"


def _malformed(uri: str, error: BaseException) -> UserError:
    return UserError(
        f"storage {masked(uri)} cannot be opened: {masked(one_line(error))}; "
        "give a path or a URI such as s3://bucket/folder"
    )
