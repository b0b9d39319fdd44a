""" "Real or synthetic?": rounds, their images and their statistics."""
