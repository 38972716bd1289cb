"""The fixtures of tests/training serve here too."""

from tests.training.conftest import _same_bits, batch, sources  # noqa: F401
