"""The errors that a user is meant to read, and how other errors become a part of their line. None shows a password."""

from hcmoco.masking import masked


class UserError(Exception):
    """A mistake in what the user gave: a key, a file, a folder, a machine too small.

    The message is one line that says what is wrong, where, what is allowed and what to do next. A program's `main`
    prints it as `error: ...` and exits with status 2; a traceback would add nothing.
    """

    def __init__(self, message: str = ""):
        super().__init__(masked(message))


class StorageError(Exception):
    """A store of files that does not answer, lacks its bucket or refuses the key.

    The message is one line, as a UserError's, and a program's `main` prints it likewise. It is neither a UserError,
    since a worker that meets it may be started again, nor an OSError, since a file behind it is not damaged.

    Args:
        message: the line.
        passing: whether the store does not answer, which may pass.
    """

    def __init__(self, message: str, passing: bool = False):
        super().__init__(masked(message))
        self.passing = passing


def one_line(error: BaseException, limit: int = 200) -> str:
    """The text of an error as one line, for use inside a one-line message.

    Args:
        error: any exception; one without a text gives the name of its type.
        limit: characters of the result at most.
    """
    # str() of a KeyError is the repr of its text.
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    text = masked(text) or type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
