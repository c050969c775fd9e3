"""Batches for other databases than PostgreSQL and SQLite. Tested on MariaDB."""
