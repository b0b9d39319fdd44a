"""Monitoring of predictions for each clinic: shares, scores, reviews, alarms."""
