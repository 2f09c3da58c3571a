"""What the parent tells a worker, one JSON object a line on its standard input; end of input means: end at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeAlias

from .encoding import from_json, to_json
from .request import RunRequest


@dataclass(frozen=True, slots=True)
class Run:
    """Carry out a request; its LoadPlan must be the one that this worker holds, if it holds one."""

    request: RunRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the run in progress at its next decode step."""


Command: TypeAlias = Run | Cancel
_TYPES: dict[str, type] = {"Run": Run, "Cancel": Cancel}


def encode(command: Command) -> str:
    return json.dumps({"type": type(command).__name__, **to_json(command)}, separators=(",", ":"))


def decode(line: str) -> Command:
    data = json.loads(line)
    command: Command = from_json(_TYPES[data.pop("type")], data)
    return command
