"""Clinics, users, sessions and API keys."""
