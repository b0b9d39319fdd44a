"""Routes, one family of pages each."""
