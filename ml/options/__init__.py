"""Options of the programs that a run can start: one definition of flags, forms and checks.

The type and the `Field` of an option say which values it takes and what a person reads about it;
`ml.option_fields` reads both.
"""
