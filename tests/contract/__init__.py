"""What every implementation of a port must hold: one suite for all of them."""
