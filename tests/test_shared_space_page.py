"""The page on the shared space: its code runs as it stands, and prints what the page says."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "shared-space.md"
_NUMBER = re.compile(r"\d+")


def test_its_code_prints_what_it_says():
    """Counts and distances to a fifth or two units: they round otherwise on another make of processor."""
    blocks = re.findall(r"```(python|text)\n(.*?)```", PAGE.read_text(), re.S)
    kinds = [kind for kind, _ in blocks]
    assert kinds == ["python", "text"] * (len(blocks) // 2)
    names: dict = {}
    for (_, code), (_, expected) in zip(blocks[::2], blocks[1::2], strict=True):
        printed = StringIO()
        with redirect_stdout(printed):
            exec(code, names)
        said = printed.getvalue()
        assert _NUMBER.sub("#", said) == _NUMBER.sub("#", expected)
        for number, other in zip(_NUMBER.findall(said), _NUMBER.findall(expected), strict=True):
            assert int(number) == pytest.approx(int(other), rel=0.2, abs=2), said
