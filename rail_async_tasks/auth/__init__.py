"""Who is calling: the one way from a credential to a user, for every edge."""
