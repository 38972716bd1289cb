"""From a stored row to a Batch: records, transforms, the sampler and the loader."""
