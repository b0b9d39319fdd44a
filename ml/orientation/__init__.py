"""Training and export of the orientation check. Without torch: `ml.imaging.orientation`."""
