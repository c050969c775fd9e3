"""`tasks doctor`: looks for broken set-ups, and names the remedy of each."""
