"""Lung segmentation: training and export. Inference without torch is `ml.imaging.lungs`."""
