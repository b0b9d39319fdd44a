"""What every feature builds on: database, storage, errors, security, templates. Imports no
feature.
"""
