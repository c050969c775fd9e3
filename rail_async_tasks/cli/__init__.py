"""The operator's command `manage.py tasks`: reads, changes, watches and checks.

It works on the rows in the database, whether a server runs or not. It starts no runtime and runs no
task: what it retries waits for a process of the project's.
"""
