"""Other errors' texts inside our one-line messages."""

from hcmoco.errors import one_line


def test_the_text_becomes_one_line():
    assert one_line(ValueError("two\n  lines\tand a tab")) == "two lines and a tab"
    assert one_line(KeyError("no such name")) == "no such name"
    assert one_line(OSError()) == "OSError"


def test_a_long_text_is_cut():
    assert one_line(ValueError("x" * 500)) == "x" * 197 + "..."
    assert one_line(ValueError("x" * 200)) == "x" * 200
    assert len(one_line(ValueError("x" * 500), 300)) == 300
