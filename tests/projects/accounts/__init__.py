"""User models with other primary keys than integers, for tests that set AUTH_USER_MODEL."""
