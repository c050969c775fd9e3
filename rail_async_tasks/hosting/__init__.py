"""The one ledger, bus and runtime of this process, and its start and end."""
