"""The runtime, one per process: dispatches due executions and attempts those it has claimed."""
