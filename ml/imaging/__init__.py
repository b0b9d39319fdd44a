"""From file bytes to standardised images."""
