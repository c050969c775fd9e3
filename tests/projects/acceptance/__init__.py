"""A Django app that has nothing but tasks."""
