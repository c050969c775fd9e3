"""Carries changes of executions to watchers. It may lose messages: the ledger has the truth."""
