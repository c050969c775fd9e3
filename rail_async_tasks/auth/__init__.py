"""Authenticates callers: from a credential to a user, the same way for every edge."""
