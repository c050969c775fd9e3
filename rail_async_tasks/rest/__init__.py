"""REST: tasks read, listed, cancelled, retried and followed with plain HTTP and JSON."""
