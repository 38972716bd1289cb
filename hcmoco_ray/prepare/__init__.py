"""Turn raw data sets into shards with Ray tasks."""
