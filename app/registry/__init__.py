"""The model registry: versions, comparisons, promotion checks and the active classifier."""
