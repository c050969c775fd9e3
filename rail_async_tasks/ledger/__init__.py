"""The ledger: its ports, and their implementations in a database and in memory."""
