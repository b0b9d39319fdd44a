"""Run types: one class each, with its options, checks, preparation and completion."""
