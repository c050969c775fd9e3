"""Bridges to task frameworks whose functions a project has already."""
