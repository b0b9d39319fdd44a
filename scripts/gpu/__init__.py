"""Use of a machine that has a GPU for a short time; README.md has the order of the steps."""
