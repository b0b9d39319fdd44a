"""Programs for people who develop the project."""
