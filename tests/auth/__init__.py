"""Authentication: sessions, bearer tokens, and a project's own authenticator."""
