"""The steps that bring a database of any age to the tables of today; run at every start."""
