"""Settings of Django that reach into views and connections of the package."""
