"""Generative adversarial networks: synthetic images."""
