"""Where executions are kept: the port, and its implementations."""
