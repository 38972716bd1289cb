"""Plain vision transformers as encoders: a pyramid on their last map, their weights by file, layer-wise rates."""
