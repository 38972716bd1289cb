"""Raw data sets become shards, as Ray tasks."""
