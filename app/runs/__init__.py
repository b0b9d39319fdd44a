"""Runs: queued training, synthesis and evaluation jobs, their options, schedules and pages."""
