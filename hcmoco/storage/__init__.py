"""Files at any URI: a local path, s3://, gs://, abfss://, hdfs:// (Arrow's own clients), or what fsspec knows.

    folder = Folder("s3://bucket/run?endpoint_override=http://minio:9000")
    folder.check_writable()                    # before work begins
    folder.child("states").write("a.json", b"{}")
    join(folder.uri, "states", "a.json")       # the query stays at the end

Nothing else opens a URI, and nothing joins text to one.
"""

from hcmoco.storage.folder import Folder, HashingSink, read_file
from hcmoco.storage.uri import absolute, base_name, existing_parent, is_local, join, split_file

__all__ = [
    "Folder",
    "HashingSink",
    "absolute",
    "base_name",
    "existing_parent",
    "is_local",
    "join",
    "read_file",
    "split_file",
]
