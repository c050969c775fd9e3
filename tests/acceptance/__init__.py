"""The promises of the package, kept by real servers: over HTTP, SSE and WebSocket."""
