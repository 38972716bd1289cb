"""Say in a few words why an MLflow store does not answer, in place of the text of the clients below it.

MLflow puts the whole text of urllib3's error into its own: pools, retries and the path of the request. The reason is
the innermost of the errors that were raised on the way.
"""

import http.client
import re
import socket
import ssl
from collections.abc import Iterator

from hcmoco.errors import one_line

_LONGEST = 300
_SECONDS = re.compile(r"timeout=([\d.]+)")
_STATUS = re.compile(r"too many (\d{3}) error responses|failed with error code (\d{3}) != ")
# Codes of OpenSSL: a certificate that signs itself, or whose authority is not known.
_UNKNOWN_AUTHORITY = (18, 19, 20, 21)


def reason(error: BaseException) -> str:
    """Return why a store did not do what it was asked for, as part of a line.

    Args:
        error: as `mlflow_store.store_errors` lists them.
    """
    chain = list(_chain(error))
    through = "its proxy does not serve: " if any(type(each).__name__ == "ProxyError" for each in chain) else ""
    found = next((said for each in reversed(chain) if (said := _said(each, chain))), "")
    return f"{through}{found}" if found else one_line(error, _LONGEST)


def is_refusal(error: BaseException) -> bool:
    """Return whether the server answers, but not to this user."""
    match = _STATUS.search(str(error))
    known = match[1] or match[2] if match else str(getattr(error, "get_http_status_code", int)())
    return known in ("401", "403")


def is_unknown(error: BaseException) -> bool:
    """Return whether the server does not know what it was asked for: an older one, or one without that part."""
    match = _STATUS.search(str(error))
    code = getattr(error, "error_code", "")
    return bool(match and (match[1] or match[2]) in ("404", "405", "501")) or code in (
        "ENDPOINT_NOT_FOUND",
        "NOT_IMPLEMENTED",
    )


def is_silent(error: BaseException) -> bool:
    """Return whether the server did not answer in time; one that is busy may answer later."""
    return any(isinstance(each, TimeoutError) for each in _chain(error))


def is_untrusted(error: BaseException) -> bool:
    """Return whether the server's certificate is of an authority that this machine does not know."""
    certificates = [each for each in _chain(error) if isinstance(each, ssl.SSLCertVerificationError)]
    return any(each.verify_code in _UNKNOWN_AUTHORITY for each in certificates)


def _said(error: BaseException, chain: list[BaseException]) -> str:
    """Return what one error of a chain means; "" where another one tells more."""
    if isinstance(error, socket.gaierror):
        return f"this machine does not know the name of its host ({error.strerror})"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not accepted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            return "what listens there does not speak TLS: try http:// in place of https://"
        return f"TLS fails: {(error.reason or 'unknown reason').lower().replace('_', ' ')}"
    if isinstance(error, TimeoutError):
        limit = next((match for each in chain if (match := _SECONDS.search(str(each)))), None)
        return f"no answer in {float(limit[1]):g} s" if limit else "no answer in time"
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
        return "it closes the connection without an answer: if it speaks TLS, give https://"
    if isinstance(error, OSError) and error.errno and error.strerror and not error.filename:
        return error.strerror.lower()  # connection refused, no route to host
    if type(error).__name__ == "InvalidURL":
        return "that is not the address of a server"
    if match := _STATUS.search(str(error)):
        return f"it answers with HTTP status {match[1] or match[2]}"
    if "not in a valid JSON format" in str(error):
        return "what answers there is not an MLflow server"
    driver = getattr(error, "orig", None)  # of SQLAlchemy, whose own text has the statement and a link
    return one_line(driver, _LONGEST) if isinstance(driver, BaseException) else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that led to it, the innermost last."""
    waiting, seen = [error], set()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = [current.__cause__, None if current.__suppress_context__ else current.__context__, *current.args]
        waiting += [each for each in inner if isinstance(each, BaseException)]
