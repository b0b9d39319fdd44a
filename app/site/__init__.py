"""Pages that belong to no feature: the console's entrance, the audit log, the API reference,
probes.
"""
