"""Data sets: manifests, splits, near-duplicates, versions, importers."""
