"""Show no password: in a text, those of its URIs and those that the environment holds become `***`.

Every error of the package passes its text through here, and so does what the programs print and log.
"""

import os
import re
from functools import lru_cache

_MASK = "***"
_SCHEME = re.compile(r"\b([A-Za-z][\w+.-]*)(://|(?:%3A|:)(?:%2F%2F|//))", re.IGNORECASE)
_SPACE = re.compile(r"\s|$")
# A user and a password in front of @. People do not always encode the password, so it may hold the separators of a URI.
_DATABASES = ("postgresql", "mysql", "mssql", "mariadb", "oracle")
_PLAIN = re.compile(r"[^/?#@]*?:(?P<secret>[^/?#]+)@")
_UNENCODED = re.compile(r"[^/?#@:]*:(?!\d+(?:[/?#]|$))(?P<secret>[^@]*[/?#].*)@")
_IN_DATABASE = re.compile(r"[^/?#@:]*:(?P<secret>.+)@")
_S3 = re.compile(r"[^/?#@:]*:(?P<secret>[^?#]+)@")  # a secret key often has slashes, and a bucket has no port
_ENCODED = re.compile(r"[^/?#@&]*?(?::|%3A)(?P<secret>[^?#&]+?)(?:@|%40)", re.IGNORECASE)
_WEB_USER = re.compile(r"(?P<secret>[^/?#@:]+):?@")  # of the web: a token, as there is no password
_QUERY = re.compile(
    r"([?&#;](?:[\w.-]*(?:secret|passw(?:or)?d|passphrase|passcode|token|signature|bearer"
    r"|(?:access|secret|account|api|shared|private)[_-]?key)"
    r"|x-(?:amz|goog)-credential|credentials?|auth(?:orization)?|key|pass|pwd|sas|sig)=)[^\s&#'\"]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(Bearer|Basic) [\w+/=.~-]{16,}")
# Variables whose value is secret as a whole, and those whose value is a URI that may hold a secret.
_SECRET_VARIABLES = (
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "RAY_AUTH_TOKEN", "HF_TOKEN"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
    *("AZURE_CLIENT_SECRET", "AZURE_STORAGE_KEY", "AZURE_STORAGE_CONNECTION_STRING", "PGPASSWORD", "MYSQL_PWD"),
)
_URI_VARIABLES = ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_SHORTEST = 8  # characters of such a value: a shorter one would hide words that say what is wrong


def masked(text: str) -> str:
    """Return a text without its secrets, each of which is replaced by `***`.

    These are the passwords and secret keys of its URIs, and the values of the variables that hold passwords and keys.
    """
    if ":" in text:
        text = _BEARER.sub(rf"\1 {_MASK}", _without_users(text))
        text = _QUERY.sub(rf"\1{_MASK}", text) if "://" in text or "%3A" in text else text
    for value in _secret_values(tuple(os.environ.get(name, "") for name in (*_SECRET_VARIABLES, *_URI_VARIABLES))):
        text = text.replace(value, _MASK)
    return text


def split_user(uri: str) -> tuple[str, str | None]:
    """Return a URI without the password in it, and the password as it stands there, None if it holds none."""
    scheme = _SCHEME.match(uri)
    found = _secret_of(scheme, uri, len(uri)) if scheme else None
    if found is None:
        return uri, None
    start, end = found
    return uri[:start].removesuffix(":") + uri[end:], uri[start:end]


def _without_users(text: str) -> str:
    shown, done = [], 0
    for scheme in _SCHEME.finditer(text):
        if scheme.start() < done:
            continue
        space = _SPACE.search(text, scheme.end())
        found = _secret_of(scheme, text, space.start() if space else len(text))
        if found:
            shown += [text[done : found[0]], _MASK]
            done = found[1]
    return "".join([*shown, text[done:]])


def _secret_of(scheme: re.Match, text: str, end: int) -> tuple[int, int] | None:
    """Return where the password or token in front of @ begins and ends, in the URI from `scheme` to `end`."""
    name, rest = scheme[1].lower().partition("+")[0], text[scheme.end() : end]
    following = _SCHEME.search(rest)
    if following and "@" in rest[: following.start()]:
        rest = rest[: following.start()]
    if scheme[2] != "://":
        patterns = [_ENCODED]
    elif name == "s3":
        patterns = [_S3]
    elif name in _DATABASES:
        patterns = [_IN_DATABASE]
    else:
        patterns = [_PLAIN, _UNENCODED, *([_WEB_USER] if name in ("http", "https") else [])]
    for pattern in patterns:
        if match := pattern.match(rest):
            return scheme.end() + match.start("secret"), scheme.end() + match.end("secret")
    return None


@lru_cache(maxsize=4)
def _secret_values(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return what to hide of the values of _SECRET_VARIABLES and _URI_VARIABLES, the longest first."""
    secrets = {value.strip() for value in values[: len(_SECRET_VARIABLES)]}
    secrets |= {split_user(uri)[1] or "" for uri in values[len(_SECRET_VARIABLES) :]}
    return tuple(sorted((each for each in secrets if len(each) >= _SHORTEST), key=len, reverse=True))
