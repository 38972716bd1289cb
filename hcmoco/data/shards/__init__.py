"""Prepared data sets (shards): manifest, data set card, reader, writer, and verification."""
