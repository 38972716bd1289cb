"""The one error that a user is meant to read."""


class UserError(Exception):
    """A mistake in what the user gave: a key, a file, a folder, a machine too small.

    The message is one line that says what is wrong, where, what is allowed and what to do next. A program's `main` prints it as
    `error: ...` and exits with status 2; a traceback would add nothing.
    """


def one_line(error: BaseException, limit: int = 200) -> str:
    """Return an error's text as one line of at most `limit` characters; the name of its kind where it has no text."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
