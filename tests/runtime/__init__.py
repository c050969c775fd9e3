"""Services of the runtime, each built alone on the memory ledger, with a fake clock."""
