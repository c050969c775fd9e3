"""Other task systems, each in an environment of its own: see `environments`.

A module has one system's task, its worker and its load. Only the process that runs in that
environment imports it.
"""
