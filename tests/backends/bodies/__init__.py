"""A Django app that has nothing but the bodies of the backends' tests."""
