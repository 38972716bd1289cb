"""Refuse options that count for nothing beside the others: one wording for all of them."""

from collections.abc import Sequence

from hcmoco.config import Config
from hcmoco.errors import UserError


def unused(option: str, needs: str) -> UserError:
    """Return the error of an option that counts only beside something that is not there.

    Args:
        option: with its dashes.
        needs: the option, or what else it is for.
    """
    return UserError(f"{option} counts only with {needs}, and there is none; leave {option} out")


def check_unused(config: Config, names: Sequence[str], needs: str) -> None:
    """Refuse settings that count only beside something that is not there.

    Args:
        config: of the reader.
        names: of the settings.
        needs: as of `unused`.

    Raises:
        UserError: one of them differs from its default.
    """
    fields = type(config).model_fields
    if given := next((name for name in names if getattr(config, name) != fields[name].default), None):
        raise unused(f"--{given.replace('_', '-')}", needs)
