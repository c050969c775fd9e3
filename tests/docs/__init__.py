"""The documentation, followed to the letter: every block of code on every page is run."""
