"""Generative adversarial networks: films that nobody took."""
