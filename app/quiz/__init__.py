"""Quiz rounds of "Real or synthetic?": their images and their statistics."""
