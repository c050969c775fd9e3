"""The example project: a small shop whose slow work runs as tasks. Start it with `make demo`."""
