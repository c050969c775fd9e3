"""Modules that no process imports by itself."""
