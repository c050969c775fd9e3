"""A project whose payment service can be away, for the dashboard and the story of a night."""
