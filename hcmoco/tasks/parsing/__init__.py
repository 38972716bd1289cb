"""Human parsing, from RGB and from depth."""

from hcmoco.tasks.parsing.config import PARSING_4K_WEIGHTS, ParsingAugment, ParsingConfig
from hcmoco.tasks.parsing.metric import ParsingMetric
from hcmoco.tasks.parsing.task import DepthParsing, ParsingBatch, ParsingTask, RgbParsing

__all__ = [
    "PARSING_4K_WEIGHTS",
    "DepthParsing",
    "ParsingAugment",
    "ParsingBatch",
    "ParsingConfig",
    "ParsingMetric",
    "ParsingTask",
    "RgbParsing",
]
