"""What breaks a rule is told in the project's own words, whichever of pydantic's rules it is."""

from enum import Enum
from typing import Annotated, Literal, get_args

import pytest
from pydantic import BaseModel, Field, FiniteFloat, ValidationError, create_model
from pydantic_core import core_schema

from hcmoco import config_errors

# What no field of a config or of a file's model is: such an error cannot occur.
_UNUSED = {
    *("date", "time", "datetime", "timezone", "url", "uuid", "decimal", "complex", "callable", "bytes", "json"),
    *("dataclass", "arguments", "call", "generator", "is", "frozen", "recursion", "no", "get", "union"),
    *("fraction", "counter", "ordered", "ellipsis", "deque", "named"),
    *("missing_argument", "missing_keyword_only_argument", "missing_positional_only_argument"),
    *("multiple_argument_values", "unexpected_keyword_argument", "unexpected_positional_argument"),
    *("positional_only", "default", "needs", "missing_sentinel_error", "assertion_error", "none", "set", "iteration"),
    *("string_sub_type", "string_not_ascii", "int_not_integer"),
}


def test_every_rule_of_pydantic_has_words():
    ours = {*config_errors._ALLOWED, "missing", "extra_forbidden", "value_error", "custom"}
    types = set(get_args(core_schema.ErrorType))
    left = {each for each in types - ours if each not in _UNUSED and each.split("_")[0] not in _UNUSED}
    assert left == set()


class _Color(Enum):
    RED = "red"


class _Below(BaseModel):
    number: int = 0


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (int, "x", "must be a whole number"),
        (int, 1.5, "must be a whole number"),
        (int, "9" * 5000, "must be a number of fewer digits"),
        (Annotated[int, Field(multiple_of=32)], 3, "must be a multiple of 32"),
        (float, "x", "must be a number"),
        (float, [], "must be a number"),
        (FiniteFloat, float("nan"), "must be a finite number"),
        (bool, "x", "must be true or false"),
        (bool, 7, "must be true or false"),
        (str, 7, "must be text; put it in double quotes (on a command line with single ones around them)"),
        (Annotated[str, Field(min_length=1)], "", "must have at least 1 character"),
        (Annotated[str, Field(max_length=2)], "abc", "must have at most 2 characters"),
        (Annotated[str, Field(pattern="^a+$")], "b", "must be of the form ^a+$"),
        (Literal["a", "b"], "c", "must be 'a' or 'b'"),
        (_Color, "blue", "must be 'red'"),
        (tuple[int, ...], 7, "must be a list"),
        (list[int], "x", "must be a list"),
        (Annotated[list[int], Field(min_length=1)], [], "must have at least 1 entry, it has 0"),
        (dict[str, int], 7, "must be a mapping of keys to values"),
        (_Below, 7, "must be a mapping of keys to values"),
        (Annotated[int, Field(gt=1)], 1, "must be greater than 1"),
        (None, 1, "must be null"),
    ],
)
def test_the_words_of_a_rule(annotation, value, words):
    model = create_model("Model", key=(annotation, ...))
    with pytest.raises(ValidationError) as caught:
        model.model_validate({"key": value})
    (error,) = caught.value.errors()
    assert config_errors.rule_of(error) == words
    assert words in config_errors.lines(model, {"key": value}, caught.value.errors())
