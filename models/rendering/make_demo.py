"""Make the bundled song: MIDI, mixed audio and the exact beats.

    python -m models.rendering.make_demo --soundfont MuseScore_General.sf3 --out config/demo

The same samples come out every time; only the serial number in the Ogg header differs.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import typer
from numpy.typing import NDArray

from engine.errors import UserError
from models.rendering.demo_song import (
    BASS,
    GUITAR,
    KEYS,
    LEAD,
    LEAD_TWO,
    PANS,
    PIANO,
    PROGRAMS,
    SECTIONS,
    STRINGS,
    compose,
)
from models.rendering.mixing import Strip, loudness_lufs, master, mix
from models.rendering.scores import DRUM_CHANNEL, Score, only
from models.rendering.synth import SoundFont, render
from models.rendering.tempo import TempoMap

STRIPS = {
    DRUM_CHANNEL: Strip(0.0, 30.0, -18.0),
    BASS: Strip(-2.0, 35.0, -40.0),
    KEYS: Strip(-7.5, 120.0, -12.0),
    LEAD: Strip(-4.5, 150.0, -9.0),
    STRINGS: Strip(-12.5, 160.0, -6.0),
    GUITAR: Strip(-8.0, 120.0, -9.0),
    LEAD_TWO: Strip(-6.0, 150.0, -7.0),
    PIANO: Strip(-6.5, 110.0, -11.0),
}
LEAD_S = 0.5
"""Silence before the first beat, so that players and sensors have started."""


def truth_rows(score: Score, tempo: TempoMap, bar_beats: list[int]) -> list[tuple[str, int, int, str, int]]:
    """Return (time [s], index, bar position, tempo [bpm], sounding) of every beat; in the pause nothing sounds."""
    names = [section.name for section in SECTIONS for _ in range(section.bars * section.beats_per_bar)]
    beats = np.arange(score.length_beats)
    at_s = tempo.time_of(beats) + LEAD_S
    bpm = 60.0 / (tempo.time_of(beats + 1e-6) - tempo.time_of(beats)) * 1e-6
    return [
        (f"{at_s[n]:.6f}", n, bar_beats[n], f"{bpm[n]:.3f}", int(names[n] != "pause" and at_s[n] <= at_s[-4] + 1e-6))
        for n in beats.tolist()
    ]


def write_midi(path: Path, score: Score, tempo: TempoMap) -> None:
    """Write a type 1 file: tempo and metres in the first track, then a track per channel."""
    import mido

    per_beat = 960
    file = mido.MidiFile(type=1, ticks_per_beat=per_beat)
    conductor: list[tuple[int, mido.MetaMessage | mido.Message]] = []
    beat = 0.0
    for section in SECTIONS:
        metre = mido.MetaMessage("time_signature", numerator=section.beats_per_bar, denominator=4)
        conductor.append((round(beat * per_beat), metre))
        beat += section.bars * section.beats_per_bar
    for start in np.arange(0.0, beat, 0.25).tolist():
        seconds = float(tempo.time_of(start + 0.25) - tempo.time_of(start)) * 4.0
        conductor.append((round(start * per_beat), mido.MetaMessage("set_tempo", tempo=round(seconds * 1e6))))
    _add_track(file, "Pas de Deux, sound check", conductor)
    names = {BASS: "bass", KEYS: "keys", LEAD: "lead", STRINGS: "strings", GUITAR: "guitar", LEAD_TWO: "violin"}
    for channel in sorted({int(c) for c in score.notes["channel"]}):
        events: list[tuple[int, mido.MetaMessage | mido.Message]] = []
        if channel != DRUM_CHANNEL:
            events.append((0, mido.Message("program_change", channel=channel, program=PROGRAMS[channel])))
            events.append((0, mido.Message("control_change", channel=channel, control=10, value=PANS[channel])))
        for note in only(score, [channel]).notes:
            pitch, loud = int(note["pitch"]), int(note["velocity"])
            on, off = round(float(note["start"]) * per_beat), round(float(note["end"]) * per_beat)
            events.append((on, mido.Message("note_on", channel=channel, note=pitch, velocity=loud)))
            events.append((max(off, on + 1), mido.Message("note_off", channel=channel, note=pitch, velocity=0)))
        _add_track(file, "drums" if channel == DRUM_CHANNEL else names.get(channel, "piano"), events)
    file.save(path)


def _add_track(file, name: str, events: list) -> None:  # type: ignore[no-untyped-def, type-arg]  # mido is not typed
    import mido

    track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
    now = 0
    for tick, message in sorted(events, key=lambda event: (event[0], event[1].type == "note_on")):
        track.append(message.copy(time=tick - now))
        now = tick
    file.tracks.append(track)


def produce(font: SoundFont) -> tuple[NDArray[np.float32], Score, TempoMap, list[int]]:
    """Render and mix the song: (n, 2) float32 at the font's rate, with what it was made from."""
    score, tempo, bar_beats = compose()
    channels = sorted({int(c) for c in score.notes["channel"]})
    stems = {c: render(only(score, [c]), tempo, font, LEAD_S, tail_s=0.5).samples for c in channels}
    mixed = master(mix(stems, STRIPS, font.sample_rate_hz), font.sample_rate_hz)
    fade = int(0.4 * font.sample_rate_hz)
    mixed[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)[:, None]
    return mixed, score, tempo, bar_beats


def main(
    soundfont: Annotated[Path, typer.Option(help="MuseScore General, .sf2 or .sf3")],
    out: Annotated[Path, typer.Option(help="folder for demo.mid, demo.ogg, demo.beats.csv")] = Path("config/demo"),
    wav: Annotated[Path | None, typer.Option(help="also write the mix as float WAV")] = None,
) -> None:
    """Compose, render and write the bundled song."""
    try:
        samples, score, tempo, bar_beats = produce(SoundFont(soundfont))
    except UserError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    rate_hz = 48_000
    out.mkdir(parents=True, exist_ok=True)
    write_midi(out / "demo.mid", score, tempo)
    with (out / "demo.beats.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["time_s", "beat_index", "bar_beat", "tempo_bpm", "sounding"])
        writer.writerows(truth_rows(score, tempo, bar_beats))
    with soundfile.SoundFile(
        out / "demo.ogg", "w", rate_hz, 2, format="OGG", subtype="VORBIS", compression_level=0.7
    ) as file:
        for start in range(0, len(samples), rate_hz):  # libsndfile's Vorbis encoder overflows its stack on long writes
            file.write(samples[start : start + rate_hz])
    if wav is not None:
        soundfile.write(wav, samples, rate_hz, subtype="FLOAT")
    typer.echo(f"{len(samples) / rate_hz:.1f} s, {loudness_lufs(samples, rate_hz):.1f} LUFS")


if __name__ == "__main__":
    typer.run(main)
