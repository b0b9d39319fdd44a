"""Evaluate generators: fidelity, diversity, memorisation."""
