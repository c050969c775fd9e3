"""Who is calling: sessions, bearer tokens, and a project's own authenticator."""
