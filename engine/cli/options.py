"""Flags that several commands share, and how they change the show's settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from engine.errors import UserError
from engine.settings import ShowSettings, load_show

# A show that lasts thirty years is one without an end.
_LONGEST_S = 1e9


def check_seconds(param: typer.CallbackParam, value: float | None) -> float | None:
    """Return a length of time as it is. Raises `UserError` if nothing can last so long."""
    if value is None or 0.0 < value <= _LONGEST_S:
        return value
    raise UserError(f"{param.opts[0]} cannot be {value:g}", "give a number of seconds above 0")


ShowOption = Annotated[Path | None, typer.Option("--show", help="Show file (TOML) with any of the settings.")]
OscOption = Annotated[list[str] | None, typer.Option("--osc", metavar="HOST:PORT", help="Send OSC there. Repeatable.")]
VmcOption = Annotated[list[str] | None, typer.Option("--vmc", metavar="HOST:PORT", help="Send VMC there. Repeatable.")]
MidiOption = Annotated[
    list[str] | None,
    typer.Option("--midi", metavar="PORT", help="Send MIDI there; virtual:NAME makes one. Repeatable."),
]
AudioOption = Annotated[str | None, typer.Option("--audio", metavar="INPUT|off", help="What is heard: song or device.")]
WebOption = Annotated[list[str] | None, typer.Option("--web", metavar="PORT|off", help="Web stage port. Repeatable.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Another seed, another dance and another piece.")]
StyleOption = Annotated[str | None, typer.Option("--style", help="Dance style, or 'auto'.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="NAME|DIR", help="Who dances: a shipped model, or an exported one.")
]
DurationOption = Annotated[
    float | None,
    typer.Option("--duration", metavar="SECONDS", help="Stop after this long.", callback=check_seconds),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting of a show file.")]
RenderOption = Annotated[Path | None, typer.Option("--render", metavar="DIR", help="Offline, into files; no devices.")]
RecordOption = Annotated[Path | None, typer.Option("--record", metavar="DIR", help="Record the session for `replay`.")]
ReportOption = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write the figures at the end.")]


_OF_DANCE = {"crowd.size": "only dance and demo have a crowd"}
_OF_PLAY = {key: "only play and duet make music" for key in ("midi.record", "synth.soundfont")}


@dataclass(frozen=True, slots=True)
class CommonOptions:
    """What was given on the command line, before it meets the show file."""

    show: Path | None = None
    osc: list[str] | None = None
    vmc: list[str] | None = None
    web: list[str] | None = None
    seed: int | None = None
    style: str | None = None
    overrides: list[str] | None = None
    midi: list[str] | None = None
    model: str | None = None

    def settings(self, *defaults: str) -> ShowSettings:
        """Return the show: defaults of the command, then the file, then the flags; the later wins.

        Raises:
            UserError: something cannot be read.
        """
        flags: list[str] = []
        if self.osc:
            flags.append(f"osc.targets={_toml_list(self.osc)}")
        if self.vmc:
            flags.append(f"vmc.targets={_toml_list(self.vmc)}")
        if self.midi:
            flags.append(f"midi.targets={_toml_list(self.midi)}")
        if self.web:
            flags.append(f"web.ports={_ports(self.web)}")
        if self.seed is not None:
            flags += [f"dancer.seed={self.seed}", f"band.seed={self.seed}"]
        if self.style is not None:
            flags.append(f"dancer.style={_toml_string(self.style)}")
        if self.model is not None:
            flags.append(f"dancer.model={_toml_string(self.model)}")
        return load_show(self.show, [*flags, *(self.overrides or [])], defaults)

    def settings_for(self, plays: bool, *defaults: str) -> ShowSettings:
        """Return the same for a show in which a band plays, or in which it does not.

        What a show file has for the other commands is left alone.

        Raises:
            UserError: something cannot be read, or is set on the command line to no effect.
        """
        settings = self.settings(*defaults)
        given = {override.partition("=")[0].strip() for override in self.overrides or []}
        for key, why in (_OF_DANCE if plays else _OF_PLAY).items():
            section, name = key.split(".")
            if key in given and getattr(getattr(settings, section), name):
                raise UserError(why, f"leave {key} out")
        return settings


def _toml_string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _toml_list(texts: list[str]) -> str:
    return "[" + ", ".join(_toml_string(text) for text in texts) + "]"


def _ports(texts: list[str]) -> str:
    """Turn `--web` values into the list of ports; "off" is the empty list."""
    if texts == ["off"]:
        return "[]"
    for text in texts:
        if not text.isdecimal():
            raise UserError(f"cannot read --web {text}", "give a port number such as 8765, or off")
    return str([int(text) for text in texts])
