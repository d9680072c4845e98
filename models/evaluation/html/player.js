// Two dances to one song, side by side, on the time of the music.
"use strict";

(() => {
  const { Data, unpack, draw } = Figure;
  const COLOURS = {
    left: { left: "#273043", right: "#7d889c" },
    right: { left: "#1f6feb", right: "#8fb8f7" },
  };
  const SIDES = ["left", "right"];
  const ORBIT_S = 24; // Once around.
  const VIEWS = { front: 0, side: Math.PI / 2 };
  const CLICK_S = 0.045;
  const element = (id) => document.getElementById(id);
  const player = element("player");
  const known = new Map(); // Dances unpacked, by their entry.
  const state = { song: null, dances: { left: null, right: null }, seconds: 0, playing: false, last: 0, beat: -1 };
  const sound = new Audio();
  let clicks = null;
  let drawn = "";

  function options(select, entries) {
    select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
  }

  const title = (dance) => (dance.label ? `${dance.system} (${dance.label})` : dance.system);

  function find(name, seed) {
    const mates = state.song.dances.filter((d) => title(d) === name);
    return mates.find((d) => d.seed === seed) ?? mates[0] ?? null;
  }

  function chooseSong(index) {
    state.song = Data.songs[index];
    const names = [...new Set(state.song.dances.map(title))];
    const wanted = SIDES.map((side) => element(`system-${side}`).value);
    const real = names.find((n) => n.startsWith("real")) ?? names[0];
    const other = names.find((n) => n !== real) ?? real;
    SIDES.forEach((side, k) => {
      const select = element(`system-${side}`);
      options(select, names.map((n) => [n, n]));
      select.value = names.includes(wanted[k]) ? wanted[k] : [real, other][k];
    });
    const seeds = [...new Set(state.song.dances.map((d) => d.seed))].sort((a, b) => a - b);
    options(element("seed"), seeds.map((s) => [String(s), String(s)]));
    sound.pause();
    if (state.song.sound) sound.src = state.song.sound;
    else sound.removeAttribute("src");
    seek(0);
    if (state.playing) start();
    return chooseDances();
  }

  async function chooseDances() {
    const seed = Number(element("seed").value);
    const song = state.song;
    for (const side of SIDES) {
      const dance = find(element(`system-${side}`).value, seed);
      if (dance && !known.has(dance)) known.set(dance, await unpack(dance, Data.parents.length));
      if (song === state.song) state.dances[side] = dance ? known.get(dance) : null;
    }
    player.dataset.ready = "yes";
  }

  function seek(seconds) {
    state.seconds = Math.min(Math.max(seconds, 0), state.song.seconds);
    state.beat = beatAt(state.seconds);
    if (state.song.sound) sound.currentTime = state.seconds;
  }

  function start() {
    state.playing = true;
    state.last = performance.now();
    if (state.seconds >= state.song.seconds - 0.05) seek(0);
    sound.muted = element("mute").checked;
    // Where no sound can be played the clock goes on by itself.
    if (state.song.sound) sound.play().catch(() => {});
    else clicks ??= new AudioContext();
    element("play").textContent = "❚❚";
  }

  function stop() {
    state.playing = false;
    sound.pause();
    element("play").textContent = "▶";
  }

  const toggle = () => (state.playing ? stop() : start());

  function beatAt(seconds) {
    let beat = -1;
    while (beat + 1 < state.song.beats_s.length && state.song.beats_s[beat + 1] <= seconds) beat += 1;
    return beat;
  }

  function click() {
    if (!clicks || element("mute").checked) return;
    const [tone, level] = [clicks.createOscillator(), clicks.createGain()];
    tone.frequency.value = 1320;
    level.gain.setValueAtTime(0.18, clicks.currentTime);
    level.gain.exponentialRampToValueAtTime(0.001, clicks.currentTime + CLICK_S);
    tone.connect(level).connect(clicks.destination);
    tone.start();
    tone.stop(clicks.currentTime + CLICK_S);
  }

  function advance(now) {
    if (!state.playing) return;
    const heard = state.song.sound && !sound.paused && sound.readyState > 2;
    // The sound's own clock comes in steps: go on by the screen's, and follow it where the two part.
    state.seconds += Math.min((now - state.last) / 1000, 0.25);
    if (heard && Math.abs(sound.currentTime - state.seconds) > 0.06) state.seconds = sound.currentTime;
    const beat = beatAt(state.seconds);
    if (beat > state.beat && !state.song.sound) click();
    state.beat = beat;
    if (state.seconds >= state.song.seconds) {
      state.seconds = state.song.seconds;
      stop();
    }
  }

  function scrubber() {
    const canvas = element("scrub");
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    const x = (seconds) => (seconds / state.song.seconds) * width;
    pen.fillStyle = "#e3e6ec";
    pen.fillRect(0, height * 0.42, width, height * 0.16);
    pen.fillStyle = "#1f6feb";
    pen.fillRect(0, height * 0.42, x(state.seconds), height * 0.16);
    state.song.beats_s.forEach((beat, k) => {
      pen.fillStyle = k === state.beat ? "#1f6feb" : "#a9b1bf";
      pen.fillRect(x(beat), height * 0.68, ratio, height * 0.2);
    });
    pen.beginPath();
    pen.arc(Math.min(Math.max(x(state.seconds), 7 * ratio), width - 7 * ratio), height / 2, 7 * ratio, 0, 2 * Math.PI);
    pen.fillStyle = "#1f6feb";
    pen.fill();
    canvas.setAttribute("aria-valuetext", `${state.seconds.toFixed(1)} s`);
  }

  function paint(now) {
    requestAnimationFrame(paint);
    advance(now);
    const turn = now - state.last;
    state.last = now;
    const view = element("view").value;
    const pulse = state.beat >= 0 ? Math.exp(-8 * (state.seconds - state.song.beats_s[state.beat])) : 0;
    // Nothing moved: nothing to draw, a page that lies open costs nothing.
    const key = [state.seconds, view, innerWidth, ...SIDES.map((s) => element(`system-${s}`).value), element("seed").value,
      ...SIDES.map((s) => Boolean(state.dances[s])), element("song").value].join("|");
    if (key === drawn && turn < 1000) return;
    drawn = key;
    const yaw = VIEWS[view] ?? 0.55 + (2 * Math.PI * state.seconds) / ORBIT_S;
    for (const side of SIDES) draw(element(`stage-${side}`), state.dances[side], state.seconds, yaw, COLOURS[side], pulse);
    scrubber();
    const minutes = Math.floor(state.seconds / 60);
    element("time").textContent = `${minutes}:${(state.seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
    player.dataset.seconds = state.seconds.toFixed(3);
  }

  function other(step) {
    const select = element("system-right");
    const count = select.options.length;
    select.selectedIndex = (select.selectedIndex + step + count) % count;
    run(chooseDances);
  }

  // What cannot be shown is said, in the page.
  function run(task) {
    Promise.resolve().then(task).catch((error) => {
      element("trouble").textContent = `These dances cannot be played in this browser (${error.message}).`;
      element("trouble").hidden = false;
    });
  }

  function grab(event) {
    const box = element("scrub").getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * state.song.seconds);
  }

  const KEYS = {
    " ": toggle,
    ArrowLeft: () => seek(state.seconds - 1),
    ArrowRight: () => seek(state.seconds + 1),
    ArrowUp: () => other(-1),
    ArrowDown: () => other(1),
  };
  addEventListener("keydown", (event) => {
    const busy = event.target instanceof HTMLElement && event.target.matches("select, input, button, summary, .scroll, a");
    if (!(event.key in KEYS) || busy || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  element("play").addEventListener("click", toggle);
  element("mute").addEventListener("change", () => { sound.muted = element("mute").checked; });
  element("scrub").addEventListener("pointerdown", (event) => {
    element("scrub").setPointerCapture(event.pointerId);
    grab(event);
  });
  element("scrub").addEventListener("pointermove", (event) => { if (event.buttons) grab(event); });
  element("song").addEventListener("change", () => run(() => chooseSong(Number(element("song").value))));
  element("seed").addEventListener("change", () => run(chooseDances));
  for (const side of SIDES) element(`system-${side}`).addEventListener("change", () => run(chooseDances));

  options(element("song"), Data.songs.map((s, k) => [String(k), `${s.name}, ${s.style}, ${Math.round(s.bpm)} bpm`]));
  run(() => chooseSong(0));
  requestAnimationFrame(paint);
})();
