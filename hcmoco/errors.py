"""The one error that a user is meant to read."""


class UserError(Exception):
    """A mistake in what the user gave: a key, a file, a folder, a machine too small.

    The message is one line that says what is wrong, where, what is allowed and what to do next. A program's `main` prints it as
    `error: ...` and exits with status 2; a traceback would add nothing.
    """
