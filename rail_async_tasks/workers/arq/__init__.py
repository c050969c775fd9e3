"""The arq worker of this package."""
