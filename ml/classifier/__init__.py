"""The classifier: networks, training, export, prediction."""
