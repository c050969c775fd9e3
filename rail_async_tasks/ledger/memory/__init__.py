"""The ledger in this process's memory: for `track_in_database=False` and for tests."""
