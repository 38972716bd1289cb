"""hcmoco on a cluster: the programs, Ray and MLflow."""
