"""Screenings: an uploaded X-ray image, its prediction and its reviews."""
