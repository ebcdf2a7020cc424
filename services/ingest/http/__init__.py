"""The HTTP door: routes, bodies and pages. Every route stands in a table from which the reference is generated."""
