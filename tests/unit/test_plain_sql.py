"""Which statements leave the session of their connection as it was."""

from __future__ import annotations

import pytest

from rail_async_tasks.runtime.attempts.plain_sql import is_plain

PLAIN = [
    'SELECT "auth_group"."id" FROM "auth_group" WHERE ("id" IN (%s, %s) AND NOT (1=2))',
    "(SELECT 1) UNION (SELECT 2);",
    'SELECT COUNT(*) FILTER (WHERE "a" > 1) AS "__count" FROM (SELECT 1) subquery',
    'SELECT ROW_NUMBER() OVER (PARTITION BY "a" ORDER BY "b"), ("a")::numeric(10, 2) FROM "t"',
    'SELECT "a" #>> %s FROM "t" WHERE "b" @> %s FOR UPDATE OF "t" SKIP LOCKED',
    'INSERT INTO "auth_group" ("name") VALUES (%s), (%s) RETURNING "auth_group"."id"',
    'INSERT INTO "a"."t" ("name") VALUES (%s) ON CONFLICT("name") DO UPDATE SET "x" = EXCLUDED."x"',
    'INSERT OR IGNORE INTO "t" ("a") VALUES (%s)',
    "INSERT INTO `t` (`a`) VALUES (%s)",
    'UPDATE "t" SET "a" = COALESCE("a", %s), "b" = django_date_trunc(%s, "b", %s, %s)',
    'DELETE FROM "t" WHERE "t"."id" IN (SELECT "id" FROM "u")',
    "WITH RECURSIVE x AS (SELECT 1) SELECT * FROM x",
    "SELECT pg_advisory_xact_lock(%s)",
    "BEGIN", "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK",
    'SAVEPOINT "s1_x1"', 'RELEASE SAVEPOINT "s1_x1"', 'ROLLBACK TO SAVEPOINT "s1_x1"',
    "SET LOCAL statement_timeout = 5", "SET CONSTRAINTS ALL IMMEDIATE",
]  # fmt: skip

OTHERS = [
    "SET statement_timeout = 1", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "set search_path = x", "RESET ALL",
    "SET LOCAL x = 1; SET y = 1", "BEGIN; SET x = 1", "SELECT 1; SET x = 1",
    "SELECT pg_advisory_lock(1)", "SELECT pg_catalog.set_config('a', 'b', false)",
    'SELECT "set_config" (%s, %s, false)', "SELECT set_config/**/('a', 'b', false)",
    "SELECT set_config--\n('a', 'b', false)", "SELECT U&\"set!005fconfig\" UESCAPE '!'('a', 'b')",
    "WITH x AS (SELECT pg_try_advisory_lock(1)) SELECT * FROM x",
    "INSERT INTO t (SELECT pg_advisory_lock(1))", "INSERT INTO t SELECT mine(1)",
    "SELECT * FROM t WHERE mine(a) = 1", "UPDATE t SET a = mine(a)",
    "SELECT 1 INTO TEMP auth_group", "UPDATE pg_settings SET setting = 1 WHERE name = 'x'",
    "SELECT @a := 1", "CREATE TEMP TABLE t (id int)", "PRAGMA query_only = ON",
    "ATTACH 'x' AS y", "LISTEN x", "PREPARE x AS SELECT 1", "DO $$ BEGIN END $$", "CALL mine()",
    "DECLARE x CURSOR WITH HOLD FOR SELECT 1", "USE other", "-- a\nSET x = 1", "",
    b"SELECT 1", None,
]  # fmt: skip


@pytest.mark.parametrize("sql", PLAIN)
def test_a_statement_that_changes_rows_alone(sql: str) -> None:
    """Or its transaction. So Django's own are, and bodies go on sharing their threads."""
    assert is_plain(sql, "postgresql")
    assert is_plain(sql + " " * 2000, "postgresql")


@pytest.mark.parametrize("sql", OTHERS)
def test_a_statement_that_may_change_its_session(sql: object) -> None:
    """A function that is not on the list counts, in whatever way its call is written."""
    assert not is_plain(sql, "postgresql")


def test_what_is_local_on_mariadb_lasts_as_long_as_the_session() -> None:
    """There LOCAL is another word for SESSION."""
    assert not is_plain("SET LOCAL sql_mode = ''", "mysql")
