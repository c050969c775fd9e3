"""Converts arguments (by annotations) and results (by their types) to JSON and back."""

from __future__ import annotations

from rail_async_tasks.codec.arguments import MISSING, ArgumentsCodec, Parameter
from rail_async_tasks.codec.json_values import encode_result
from rail_async_tasks.errors import ResultError

__all__ = ["MISSING", "ArgumentsCodec", "Parameter", "ResultError", "encode_result"]
