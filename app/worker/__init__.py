"""The worker process that executes runs."""
