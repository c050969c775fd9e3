"""Commands of the shop, a module for each."""
