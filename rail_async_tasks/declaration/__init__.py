"""A task as declared: its record, its options and their checks, the place of its declaration."""
