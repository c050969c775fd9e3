"""Spans of several processes: each writes its own to a file of a shared folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


class FileExporter(SpanExporter):
    """Adds a line for each span to a file that is named by the process that ended it."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with (self._folder / f"{os.getpid()}.jsonl").open("a") as file:
            file.writelines(f"{span.to_json(indent=None)}\n" for span in spans)
        return SpanExportResult.SUCCESS


def export_to(folder: str) -> None:
    """Sets the provider of this process, which its children inherit."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileExporter(folder)))
    trace.set_tracer_provider(provider)


@dataclass(frozen=True)
class Written:
    """A span that was written, and the process that wrote it."""

    pid: int
    name: str
    trace_id: str
    id: str
    parent: str | None
    attributes: dict[str, Any]


def written(folder: Path) -> list[Written]:
    """Reads all spans that there are."""
    return [
        Written(
            int(path.stem), span["name"], span["context"]["trace_id"], span["context"]["span_id"],
            span["parent_id"], span["attributes"],
        )
        for path in folder.glob("*.jsonl")
        # Without a last line that is half written.
        for line in path.read_text().rpartition("\n")[0].splitlines()
        for span in (json.loads(line),)
    ]  # fmt: skip
