"""`python -m example_project.distributed`: the example project in several processes.

On one machine: PostgreSQL and Redis (or Valkey) of its own, a web server and two workers. Nothing
is left when it ends. In the environment: what `example_project.demo` reads, but for the database.
"""
