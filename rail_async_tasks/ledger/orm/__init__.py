"""The ledger in the project's database, through Django's connections."""
