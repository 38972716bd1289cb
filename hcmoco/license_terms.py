"""The terms of weights: those of everything that they were trained on, which manifests and exports know."""

import json
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from hcmoco import markdown
from hcmoco.config import Config
from hcmoco.data.shards.manifest import About
from hcmoco.errors import UserError
from hcmoco.storage import Folder, split_file

SYNTHETIC = "synthetic; the body derives from CC0 and Apache-2.0 data (see its NOTICE)"
"""Of the people and scenes that `prepare` makes: nobody else has a say about weights that saw them alone."""
_OF_YOUR_DATA = "terms of your data: not known to hcmoco"
_OF_A_FILE = "terms of the file and of the data behind it: not known to hcmoco"
_OF_TIMM = "as the model's page states; the data that it was trained on has terms of its own"
_NOT_RECORDED = "terms of its training data: not recorded by the hcmoco that exported it"


class Terms(Config):
    """One thing that weights were made from: a data set, or weights that the training started from."""

    name: str
    terms: str
    page: str = ""


def of_data(about: About) -> Terms:
    """The terms of a prepared data set."""
    return Terms(name=about.dataset, terms=about.license or _OF_YOUR_DATA, page=about.page)


def of_init(init: str, encoder: str) -> tuple[Terms, ...]:
    """The terms of an encoder's first weights: none of drawn ones; a file's are in the config.json beside it, where it
    is ours.

    Args:
        init: of an EncoderConfig.
        encoder: the model's name in timm.
    """
    if init == "scratch":
        return ()
    if init == "timm":
        return (Terms(name=f"the weights that timm publishes for {encoder}", terms=_OF_TIMM),)
    path = init.partition("#")[0]
    training = training_beside(path)
    if training is not None:
        return of_training(training, path)
    return (Terms(name=f"the weights file {path}", terms=_OF_A_FILE),)


def of_first_weights(source: str | None) -> tuple[Terms, ...]:
    """The terms of the file that a whole model starts from; none without one."""
    return (Terms(name=f"the weights file {source}", terms=_OF_A_FILE),) if source else ()


def training_beside(path: str) -> dict[str, Any] | None:
    """What the config.json beside a weights file of ours says of its training; None of any other file."""
    try:
        folder, name = split_file(path)
        facts = json.loads(Folder(folder).read("config.json"))
        training = facts["training"] if name in facts["files"] else None
    except (OSError, UserError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return training if isinstance(training, dict) else None


def of_training(training: dict[str, Any], where: str) -> tuple[Terms, ...]:
    """The terms in what an export or a model at `where` says of its training."""
    try:
        return tuple(Terms.model_validate(each) for each in training["terms"])
    except (KeyError, TypeError, ValidationError):
        return (Terms(name=f"the weights in {where}", terms=_NOT_RECORDED),)


def as_json(terms: Iterable[Terms]) -> list[dict[str, str]]:
    """What configs keep: each of the terms once, in their order."""
    return [each.model_dump() for each in dict.fromkeys(terms)]


def is_ours(terms: Iterable[Terms]) -> bool:
    """Return whether weights were trained on synthetic people alone."""
    known = list(terms)
    return bool(known) and all(each.terms == SYNTHETIC for each in known)


def license_lines(terms: Iterable[Terms]) -> str:
    """The license in the head of a model card.

    Apache-2.0 for weights of synthetic people alone, else not ours to give.
    """
    if is_ours(terms):
        return "license: apache-2.0"
    return "license: other\nlicense_name: terms-of-the-training-data"


def in_one_line(terms: Iterable[Terms]) -> str:
    """The license of weights as a tag: `apache-2.0`, or `other` with the terms of all that they were trained on."""
    known = list(dict.fromkeys(terms))
    if is_ours(known):
        return "apache-2.0"
    named = "; ".join(" ".join(f"{each.name}: {each.terms}".split()) for each in known)
    return f"other, terms of the training data: {named or 'not recorded'}"


def section(terms: Iterable[Terms]) -> str:
    """A model card's section on the licence, in Markdown."""
    known = list(dict.fromkeys(terms))
    if license_lines(known) == "license: apache-2.0":
        text = "Apache-2.0. The weights were trained on synthetic people alone."
    else:
        text = (
            "The program is Apache-2.0. The weights are not its authors' to license:\n"
            "whoever uses them or hands them on has to keep to the terms of all that they were trained on."
        )
    rows = [
        (f"{_cell(data.name)} ({_cell(data.page)})" if data.page else _cell(data.name), _cell(data.terms))
        for data in known
    ]
    table = markdown.table(("trained on", "terms"), rows or [("not recorded", "not known to hcmoco")], "ll")
    return "\n".join(["## Licence", "", text, "", table, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
