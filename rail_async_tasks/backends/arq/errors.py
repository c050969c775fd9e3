"""Errors of Redis, in words for the log."""

from __future__ import annotations

from typing import Final

# What redis-py puts between a command of a pipeline, here a whole script, and the answer to it.
_ANSWER: Final = " caused error: "


def is_refusal(error: Exception) -> bool:
    """Returns whether the server answered and refused the command."""
    return _ANSWER in str(error)


def brief(error: Exception) -> str:
    """Returns the error of Redis in one line of at most 200 characters."""
    words = " ".join(str(error).rpartition(_ANSWER)[2].split())
    return words[:200] or type(error).__name__


def outage(error: Exception) -> str:
    """Returns why Redis can't be used, in words for the log."""
    problem = "refuses a command" if is_refusal(error) else "does not answer"
    return f"Redis {problem}: {brief(error)}"
