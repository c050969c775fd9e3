"""Mistakes that newcomers make: each is made for real, and its message says what to do."""
