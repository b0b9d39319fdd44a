"""Validation of a classifier on a clinic's own images, and the thresholds of a clinic."""
