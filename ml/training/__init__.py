"""What all training loops share: checkpoints, run folders, metrics logs, process groups."""
