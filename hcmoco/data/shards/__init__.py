"""Prepared data sets: the plan (`plan`), what a folder says of itself (`manifest`), `write`, `read`, `verify`; `storage` for the URIs."""
