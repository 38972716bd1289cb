"""Keep passwords and keys out of URIs, which are saved in configs, manifests and tracking runs, and shown in messages.

A URI that holds one is refused; a text that may hold one is masked before it is shown.
"""

import re
from collections.abc import Mapping
from typing import Any

from hcmoco.errors import UserError

_MASK = "***"
# An S3 secret key often has slashes, and people do not encode them. An S3 URI has no port, so this is unambiguous.
_PASSWORD = re.compile(r"((?:\bs3://[^\s/?#@:]*:)(?=[^\s?#]+@)|\b[A-Za-z][\w+.-]*://[^\s/?#@:]*:(?=[^\s/?#]+@))")
_S3_SECRET, _OTHER_SECRET = re.compile(r"[^\s?#]+(?=@)"), re.compile(r"[^\s/?#]+(?=@)")
_QUERY = re.compile(
    r"([?&](?:[\w.-]*(?:secret|passw(?:or)?d|token|signature|(?:access|secret|account|api|shared|private)[_-]?key)"
    r"|x-amz-credential|credentials|key|pwd|sas|sig)=)[^\s&#'\"]+",
    re.IGNORECASE,
)
_ENVIRONMENT = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use ~/.aws/credentials",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "gcs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "abfs": "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or use `az login`",
    "abfss": "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or use `az login`",
    "http": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a tracking server",
    "https": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a tracking server",
    "postgresql": "use ~/.pgpass",
    "mysql": "name an option file with ?read_default_file=",
}


def masked(text: str) -> str:
    """Return a text with the passwords and secret keys of its URIs replaced by `***`."""
    if "://" not in text:
        return text
    parts = _PASSWORD.split(text)
    shown = [parts[0]]
    for head, rest in zip(parts[1::2], parts[2::2], strict=True):
        secret = _S3_SECRET if head.lower().startswith("s3://") else _OTHER_SECRET
        shown += [head, secret.sub(_MASK, rest, count=1)]
    return _QUERY.sub(rf"\1{_MASK}", "".join(shown))


def refuse_secret(uri: str, what: str = "") -> None:
    """Refuse a URI that holds a password or a secret key.

    Args:
        uri: a URI or a path; a path without `://` holds no secret.
        what: key or option that gives it, for the message.

    Raises:
        UserError: it holds one. The message shows the URI without it.
    """
    shown = masked(uri)
    if shown != uri:
        named = f"{what} = " if what else ""
        raise UserError(
            f"{named}{shown!r} holds a password or a secret key, which would be saved and shown; leave it out of the "
            f"URI and {advice(uri)}"
        )


def advice(uri: str) -> str:
    """Return how to give a store its key without the URI, by the URI's scheme: a clause."""
    return _ENVIRONMENT.get(uri.partition("://")[0].lower(), "give it by the environment")


def refuse_secrets(values: Any, where: str, key: str = "") -> None:
    """Refuse a config, as a recipe gives it, if a URI anywhere in it holds a password or a secret key.

    Args:
        values: a mapping, list or scalar.
        where: the config, for the message.
        key: dotted key of `values`.

    Raises:
        UserError: one does; the message names its key.
    """
    if isinstance(values, Mapping):
        for name, value in values.items():
            refuse_secrets(value, where, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            refuse_secrets(value, where, f"{key}.{number}")
    elif isinstance(values, str) and "://" in values:
        refuse_secret(values, f"{where}: {key}")
