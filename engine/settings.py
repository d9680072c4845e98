"""The show file: every setting, its type, range and default. Strict: an unknown key is an error that names the nearest.

A show is TOML (see `config/shows/`); `--set section.key=value` changes one setting from the command line.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from engine.errors import UserError

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Device = Annotated[str, Field(coerce_numbers_to_str=True)]
"""A name, or an index, which TOML has as a number."""
Program = Annotated[int, Field(ge=-1, le=127)]
Address = Annotated[str, Field(coerce_numbers_to_str=True)]
"""HOST:PORT, or a part of it; a port alone is a number in TOML."""
SceneName = Annotated[str, Field(max_length=64)]
"""Of a name that a control asks for no more is read."""


class Section(BaseModel):
    """A strict, immutable group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class AudioSettings(Section):
    """[audio]: where the music comes from."""

    device: Device | None = None
    """Input device by name (a part of it is enough) or index; None: the system's default input."""
    output_device: Device | None = None
    """Where an audio file is played; None: the system's default output."""
    block_samples: Annotated[int, Field(ge=32, le=8192)] = 256
    """PortAudio buffer size: 256 at 48 kHz is 5.3 ms."""
    latency_ms: Annotated[float, Field(ge=0.0, le=500.0)] = 0.0
    """What passes between a sound in the room and its arrival here (converter, driver), if you measured it."""


class BeatSettings(Section):
    """[beats]: how the beat is found."""

    tracker: Literal["neural", "flux", "aubio"] = "neural"
    min_confidence: Unit = 0.15
    """Below this no BeatEvent is sent (the dancer keeps its time all the same)."""
    lead_ms: Annotated[float, Field(ge=0.0, le=500.0)] = 50.0
    """BeatEvents leave this long before the beat sounds, so that a receiver can prepare."""


class DancerSettings(Section):
    """[dancer]: who dances, and how."""

    model: str = "gmd"
    """A model shipped with the project, the path of an artifact folder, or "idle"."""
    style: str = "auto"
    """A style the model knows, or "auto": chosen by metre and tempo."""
    backend: Literal["auto", "cpu", "cpu-fp32", "tensorrt", "rtx", "cuda"] = "auto"
    """Where the model is computed; "auto": the fastest that proves itself, see `pasdedeux check`."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    energy: Unit = 0.5
    mirror: bool = False
    stage_radius_m: Annotated[float, Field(ge=0.5, le=50.0)] = 2.5
    rest_after_s: Annotated[float, Field(ge=0.2, le=60.0)] = 1.5
    """Silence this long and the dancer rests, swaying, until the music returns."""


class CrowdSettings(Section):
    """[crowd]: dancers beside the lead, performers "1", "2", ..."""

    size: Annotated[int, Field(ge=0, le=4096)] = 0
    processes: Annotated[int, Field(ge=0, le=256)] = 0
    """Over how many processes the crowd is spread; 0: one for every 60 dancers, as far as there are cores."""
    spacing_m: Annotated[float, Field(ge=0.5, le=10.0)] = 1.6
    mirror_alternate: bool = True
    """Every other dancer is the mirror image."""


class OutputSettings(Section):
    """[output]: when poses leave."""

    fps: Annotated[float, Field(ge=10.0, le=240.0)] = 60.0
    lookahead_ms: Annotated[float, Field(ge=20.0, le=500.0)] = 60.0
    """Poses are computed this long before they leave. Cover two audio blocks and one model step."""
    latency_ms: Annotated[float, Field(ge=0.0, le=500.0)] = 0.0
    """Delay of what follows us (renderer, projector): every bridge sends this much earlier."""
    vision_lead_ms: Annotated[float, Field(ge=-100.0, le=100.0)] = 15.0
    """Accents are shown this long before they sound: people forgive early light, not late light."""
    real_time: bool = True
    """Ask the system to run what hears, dances and sends before other programs, where it grants that."""


class OscSettings(Section):
    """[osc]: where numeric OSC goes, and where control comes from."""

    targets: tuple[Address, ...] = ()
    listen: Address | None = None
    """HOST:PORT for control messages; None: do not listen. Loopback unless you say otherwise."""
    smpl: bool = False
    """Also send /pdd/smpl (translation and 24 axis-angles)."""
    presentation_timetags: bool = False


class VmcSettings(Section):
    """[vmc]: VMC 3.1 marionettes (Unity, VTuber tools)."""

    targets: tuple[Address, ...] = ()
    rotation_only: bool = False
    performer: str = ""
    """Whose poses: "partner", "camera" ...; "": the lead dancer's or, where a band plays without one, "camera"."""


class CameraSettings(Section):
    """[camera]: who is watched, and how."""

    device: Device | None = None
    """Camera by index or by a part of its name; None: the first."""
    width: Annotated[int, Field(ge=160, le=3840)] = 1280
    height: Annotated[int, Field(ge=120, le=2160)] = 720
    fps: Annotated[float, Field(ge=5.0, le=240.0)] = 60.0
    """Asked of the camera; it gives what it can."""
    mirror: bool = False
    """The dancer appears as in a mirror: their left is the figure's right."""
    model: Literal["lite", "full", "heavy"] = "full"
    model_path: str | None = None
    """A pose landmarker bundle (.task) of your own; needed for heavy, which is not shipped."""
    people: Annotated[int, Field(ge=1, le=4)] = 1
    """How many people are looked for; with several, `person` says who plays."""
    person: Literal["largest", "left", "middle", "right"] = "largest"
    smoothing: Unit = 0.5
    """0: raw landmarks, 1: very calm (and late)."""
    latency_ms: Annotated[float, Field(ge=0.0, le=500.0)] = 0.0
    """What passes between a movement and its frame's arrival here (exposure, USB), if you measured it."""


class BandSettings(Section):
    """[band]: the music that follows the dancer."""

    model: str = "gdm"
    """A composer shipped with the project, the path of an artifact folder, or "rules" (no network, own rules)."""
    leader: Literal["dancer", "audio", "tap", "link", "midi-clock"] = "dancer"
    """Who gives the beat: the dancer's own movement, the sound that is heard, taps, or another program."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    tempo_bpm: Annotated[float, Field(ge=40.0, le=240.0)] = 110.0
    """Until a tempo is known."""
    key: str = "auto"
    """"auto": as the model likes; else a tonic and mode such as "C major", "F# minor"."""
    scale_lock: bool = True
    """Notes outside the key move to the nearest inside it (when a key is chosen)."""
    density: Unit = 0.5
    octaves: Annotated[int, Field(ge=-2, le=2)] = 0
    """Octaves up or down for bass, chord and lead."""
    mutes: tuple[Literal["drums", "bass", "chord", "lead"], ...] = ()
    velocity_follows: Unit = 0.9
    """How much velocities follow the movement's energy."""
    density_follows: Unit = 1.0
    """How much the density of notes follows it."""
    lookahead_ms: Annotated[float, Field(ge=20.0, le=500.0)] = 120.0
    """Notes are decided this long before they sound; cover one camera frame, its pose and one model step."""
    rest_after_beats: Annotated[float, Field(ge=0.5, le=16.0)] = 2.0
    """Standing still this long and the band stops (musically), until the dancer moves again."""


class TriggerZoneSettings(Section):
    """[[triggers.zones]]: an accent of one body part fires a note."""

    part: Literal["left_hand", "right_hand", "left_foot", "right_foot", "head"]
    note: Annotated[int, Field(ge=0, le=127)]
    channel: Annotated[int, Field(ge=0, le=15)] = 3
    height: Literal["any", "high", "middle", "low"] = "any"
    """Where the part must be, relative to the body: over the shoulders, between, below the hips."""
    side: Literal["any", "left", "right"] = "any"
    """On which side of the body."""
    duration_ms: Annotated[float, Field(ge=10.0, le=10_000.0)] = 200.0


class TriggerSettings(Section):
    """[triggers]: notes fired by the body's accents."""

    mode: Literal["off", "free", "quantised"] = "off"
    """free: at once; quantised: on the next step of `grid`."""
    sensitivity: Unit = 0.5
    grid: Literal["1/4", "1/8", "1/16"] = "1/16"
    refractory_ms: Annotated[float, Field(ge=20.0, le=2000.0)] = 150.0
    zones: tuple[TriggerZoneSettings, ...] = (
        TriggerZoneSettings(part="right_hand", note=38),
        TriggerZoneSettings(part="left_hand", note=42),
        TriggerZoneSettings(part="right_foot", note=36),
        TriggerZoneSettings(part="left_foot", note=41),
        TriggerZoneSettings(part="head", note=49),
    )


class ProgramSettings(Section):
    """[midi.programs]: General MIDI program (from 0) of each voice, sent at the start; -1: none is."""

    drums: Program = -1
    bass: Program = 33
    chord: Program = 4
    lead: Program = 11

    def sent(self) -> dict[str, int]:
        """Return the program of each voice that has one."""
        return {voice: program for voice, program in self if program >= 0}


class MidiSettings(Section):
    """[midi]: where notes go as MIDI."""

    targets: tuple[str, ...] = ()
    """Output ports by name (a part is enough); "virtual:NAME" makes one."""
    clock: bool = False
    """Also send MIDI clock, start and stop."""
    clock_input: str | None = None
    """Port whose MIDI clock leads when band.leader is "midi-clock"."""
    programs: ProgramSettings = ProgramSettings()
    record: str | None = None
    """A Standard MIDI File that is written at the end of the show."""


class SynthSettings(Section):
    """[synth]: the band heard without a DAW. The web stage has instruments of its own."""

    soundfont: str | None = None
    """A .sf2 or .sf3 file: notes are sounded here (extra "synth")."""
    output_device: Device | None = None
    gain_db: Annotated[float, Field(ge=-60.0, le=12.0)] = -6.0


class WebSettings(Section):
    """[web]: the web stage."""

    host: str = "127.0.0.1"
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (8765,)
    allowed_hosts: tuple[str, ...] = ()
    """Further names under which the page may be reached when `host` is not loopback."""

    @field_validator("host")
    @classmethod
    def _host_alone(cls, host: str) -> str:
        host = host.strip()
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if host.count(":") == 1 or not set("[]/").isdisjoint(host):
            raise PydanticCustomError("host", "give a name or an address alone; ports go into web.ports")
        return host


class SceneSettings(Section):
    """[scenes.NAME]: what `/pdd/scene NAME` sets; a setting left out stays as it is."""

    style: str | None = None
    energy: Unit | None = None
    mirror: bool | None = None
    key: str | None = None
    density: Unit | None = None
    mutes: tuple[Literal["drums", "bass", "chord", "lead"], ...] | None = None
    """Exactly these voices are silent."""
    triggers: Literal["off", "free", "quantised"] | None = None


class ShowSettings(Section):
    """A whole show."""

    audio: AudioSettings = AudioSettings()
    beats: BeatSettings = BeatSettings()
    dancer: DancerSettings = DancerSettings()
    crowd: CrowdSettings = CrowdSettings()
    output: OutputSettings = OutputSettings()
    osc: OscSettings = OscSettings()
    vmc: VmcSettings = VmcSettings()
    web: WebSettings = WebSettings()
    camera: CameraSettings = CameraSettings()
    band: BandSettings = BandSettings()
    triggers: TriggerSettings = TriggerSettings()
    midi: MidiSettings = MidiSettings()
    synth: SynthSettings = SynthSettings()
    scenes: Mapping[SceneName, SceneSettings] = Field(default_factory=dict)

    @property
    def delays_ns(self) -> int:
        """What passes before a sound is heard here and after a pose has left: what is to come must be known this much
        earlier than without."""
        return round((self.audio.latency_ms + self.output.latency_ms) * 1e6)


def load_show(path: Path | None, overrides: Iterable[str] = (), defaults: Iterable[str] = ()) -> ShowSettings:
    """Read a show file and apply `key=value` settings around it.

    Args:
        path: a TOML file, or None for the defaults.
        overrides: "section.key=value", the value in TOML syntax (a bare word is taken as a string); wins over the
            file.
        defaults: the same; the file wins over them.

    Raises:
        UserError: the file is missing or not TOML, or a setting is unknown or wrong; names the nearest key.
    """
    data: dict[str, Any] = {}
    for default in defaults:
        _apply(data, default)
    if path is not None:
        try:
            # Editors on Windows begin a file with a byte order mark, which TOML does not know.
            content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise UserError(f"cannot read show file {path}", error.strerror or "check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not valid TOML", str(error)) from error
        _merge(data, content)
    for override in overrides:
        _apply(data, override)
    try:
        return ShowSettings.model_validate(data)
    except ValidationError as error:
        raise _explain(error, str(path) if path else "settings") from error


def _merge(data: dict[str, Any], content: dict[str, Any]) -> None:
    """Lay nested tables over others, in place."""
    for key, value in content.items():
        present = data.get(key)
        if isinstance(present, dict) and isinstance(value, dict):
            _merge(present, value)
        else:
            data[key] = value


def _apply(data: dict[str, Any], override: str) -> None:
    """Set one dotted key of nested tables in place."""
    key, separator, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not separator or not all(parts):
        raise UserError(f"cannot read setting '{override}'", "write it as section.key=value, e.g. dancer.energy=0.8")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = data
    for part in parts[:-1]:
        child = table.setdefault(part, {})
        if not isinstance(child, dict):
            raise UserError(f"cannot set '{key}'", f"'{part}' is not a section")
        table = child
    table[parts[-1]] = value


def _explain(error: ValidationError, where: str) -> UserError:
    """Turn pydantic's first complaint into one line with a remedy."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"] if part != "[key]"]
    name = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = _keys_at(location[:-1])
        nearest = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"perhaps you meant '{'.'.join([*location[:-1], nearest[0]])}'" if nearest else ""
        return UserError(f"{where}: unknown setting '{name}'", hint or f"known here: {', '.join(sorted(known))}")
    remedy = 'write it as a list, e.g. ["one", "two"]' if first["type"] == "tuple_type" else first["msg"]
    return UserError(f"{where}: wrong value for '{name}' ({first['input']!r})", remedy)


def _keys_at(location: list[str]) -> list[str]:
    """Return the setting names inside a section of the show file."""
    model: type[BaseModel] = ShowSettings
    for part in location:
        if part == "scenes" and model is ShowSettings:
            return list(SceneSettings.model_fields)
        if part == "zones" and model is TriggerSettings:
            return list(TriggerZoneSettings.model_fields)
        default = model.model_fields[part].default if part in model.model_fields else None
        if not isinstance(default, BaseModel):
            return []
        model = type(default)
    return list(model.model_fields)
