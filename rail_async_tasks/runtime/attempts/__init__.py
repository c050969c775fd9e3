"""One attempt: its body, its threads, its outcome."""
