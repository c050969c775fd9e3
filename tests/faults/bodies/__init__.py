"""A Django app that has nothing but the bodies of the fault tests' tasks."""
