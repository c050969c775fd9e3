"""Decides by its text whether a statement leaves the session of its connection as it was.

Pure. Errs on the safe side: a function that is not listed here may set a variable or take a lock.
"""

from __future__ import annotations

import re
from functools import lru_cache

# Ends with its transaction, or begins and ends one, which is seen otherwise.
_OF_TRANSACTION = re.compile(
    r"\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b[^;]*;?\s*", re.IGNORECASE
)
# MariaDB's and MySQL's `SET LOCAL` is another one: it lasts as long as the session.
_OF_TRANSACTION_ON_POSTGRESQL = re.compile(
    r"\s*SET\s+(LOCAL|CONSTRAINTS)\b[^;]*;?\s*", re.IGNORECASE
)
_READS_OR_WRITES = re.compile(r"[\s(]*(SELECT|INSERT|REPLACE|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
# The name of the table, its columns and `VALUES (` look like calls.
_INSERT = re.compile(r"\s*(INSERT|REPLACE)(\s+(OR\s+)?\w+)?\s+INTO\s+[\w.\"`]+\s*\(", re.IGNORECASE)
# A comment, a second statement, a `SELECT … INTO` a table that may be a temporary one, a variable,
# the view of settings that sets what is updated in it.
_SUSPICIOUS = re.compile(r"/\*|--|;(?!\s*\Z)|\bINTO\b|:=|\bpg_settings\b", re.IGNORECASE)
_CALL = re.compile(r"([\w$]+|[\"'`])\s*\(")

# Words before a parenthesis that call nothing which could change a session.
_OF_THE_LANGUAGE = """
    all and any array as between by case check conflict cube cross distinct else escape except
    exists extract filter from glob group having ilike in intersect is join lateral like limit
    match materialized not of offset on or order over partition recursive regexp returning
    rollup row select set sets similar some then to union using values when where with within
    bit char character date datetime decimal float interval numeric real signed time timestamp
    timestamptz unsigned varchar varying
"""
_FUNCTIONS = """
    abs age array_agg array_append array_length array_position array_remove array_to_string avg
    bit_and bit_or bool_and bool_or btrim cardinality cast ceil ceiling char_length
    character_length clock_timestamp coalesce concat concat_ws convert convert_tz corr count
    cume_dist current_date current_time current_timestamp date_add date_format date_part
    date_sub date_trunc datediff dense_rank encode decode every exp first_value floor format
    gen_random_uuid greatest group_concat hex if ifnull iif instr initcap json json_agg
    json_array json_array_length json_build_array json_build_object json_contains json_each
    json_extract json_keys json_object json_quote json_set json_type json_unquote json_valid
    jsonb jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_array_length
    jsonb_build_array jsonb_build_object jsonb_exists jsonb_object_keys jsonb_set jsonb_typeof
    julianday lag last_value lead least left length ln locate log lower lpad ltrim make_date
    make_interval max md5 min mod now nextval nth_value ntile nullif nvl octet_length
    percent_rank percentile_cont percentile_disc phraseto_tsquery plainto_tsquery position power
    printf quote random rank regexp_match regexp_matches regexp_replace regr_count repeat
    replace reverse right round row_number row_to_json rpad rtrim setweight sha1 sha2 sha224
    sha256 sha384 sha512 sign similarity split_part sqrt statement_timestamp stddev_pop
    stddev_samp strftime string_agg strpos substr substring sum timestampdiff to_char to_date
    to_json to_jsonb to_number to_timestamp to_tsquery to_tsvector total transaction_timestamp
    translate trim trunc truncate ts_headline ts_rank ts_rank_cd typeof unaccent unicode
    unixepoch unnest upper uuid_generate_v4 var_pop var_samp websearch_to_tsquery width_bucket
    word_similarity xor year month day hour minute second
"""
_LOCKS_OF_TRANSACTIONS = """
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_xact_lock
    pg_try_advisory_xact_lock_shared
"""
_HARMLESS = frozenset(f"{_OF_THE_LANGUAGE} {_FUNCTIONS} {_LOCKS_OF_TRANSACTIONS}".split())

_CACHED_UP_TO = 2000  # characters; longer texts differ from call to call


def is_plain(sql: object, vendor: str) -> bool:
    """Returns whether a statement can change rows alone, or its transaction.

    Args:
        vendor: of the database, as Django names it.
    """
    if not isinstance(sql, str):
        return False
    return (_find if len(sql) <= _CACHED_UP_TO else _is_plain)(sql, vendor)


def _is_plain(sql: str, vendor: str) -> bool:
    if not _READS_OR_WRITES.match(sql):
        return bool(
            _OF_TRANSACTION.fullmatch(sql)
            or (vendor == "postgresql" and _OF_TRANSACTION_ON_POSTGRESQL.fullmatch(sql))
        )
    insert = _INSERT.match(sql)
    rest = sql[insert.end() :] if insert else sql
    return not _SUSPICIOUS.search(rest) and all(
        (word := call[1].lower()) in _HARMLESS or word.startswith("django_")
        for call in _CALL.finditer(rest)
    )


_find = lru_cache(maxsize=512)(_is_plain)
