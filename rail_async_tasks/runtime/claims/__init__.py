"""How due executions are claimed: here, or by way of a broker."""
