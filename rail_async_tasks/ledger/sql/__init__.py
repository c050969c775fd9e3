"""Batches on PostgreSQL and SQLite: one statement for all rows of one kind."""
