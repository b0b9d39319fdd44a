"""Reports, model cards and charts."""
