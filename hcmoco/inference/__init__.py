"""Prediction of parts, poses and surfaces on a user's own images: from files to files, on one machine."""
