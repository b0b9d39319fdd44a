"""The gallery of synthetic X-rays."""
