"""Generate data sets of synthetic images."""
