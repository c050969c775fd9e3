"""The runtime with a real ledger and bus in this process, driven through the public API."""
