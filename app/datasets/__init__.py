"""Data set versions: upload, import, freeze, show."""
