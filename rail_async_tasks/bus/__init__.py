"""How watchers hear that something changed. A bus may lose messages: the ledger stays the truth."""
