"""How execution ids arrive in a worker process."""
