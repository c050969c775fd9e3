"""Services that keep the ledger and this process in order."""
