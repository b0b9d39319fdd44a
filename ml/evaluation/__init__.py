"""Evaluate and compare classifiers."""
