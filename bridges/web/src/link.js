// The connection to the engine: reconnects by itself, tells controls with the engine's own time.

const RETRY_MS = [250, 500, 1000, 2000];
const PING_MS = 2000;
// A cable pulled, a phone in another network: such a connection ends without a word. Six seconds, counted in pings, so
// that a page that was kept from its work or whose timers sleep does not take its own absence for the engine's.
const UNANSWERED_PINGS = 3;

export class Link {
  /** @param on {open, close(reason), pose(ArrayBuffer), message(object)} */
  constructor(url, on) {
    this.url = url;
    this.on = on;
    this.socket = null;
    this.tries = 0;
    this.timer = 0;
    this.pinger = 0;
    /** Pings, and waits to be connected as long, since the engine was last heard. */
    this.unanswered = 0;
    /** Engine time minus ours [ms], from the quickest ping; null until known. */
    this.offsetMs = null;
    this.roundTripMs = Infinity;
    this.connect();
    // Asleep or out of reach for a while: try at once.
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.retryNow());
  }

  get connected() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    clearTimeout(this.timer);
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.unanswered = 0;
    this.pinger = setInterval(() => this.watch(), PING_MS);
    socket.onopen = () => {
      if (this.socket !== socket) return;
      this.tries = 0;
      this.unanswered = 0;
      this.offsetMs = null;
      this.roundTripMs = Infinity;
      this.ping();
      this.on.open();
    };
    socket.onmessage = (event) => {
      if (this.socket !== socket) return;
      this.unanswered = 0;
      if (typeof event.data !== "string") return this.on.pose(event.data);
      let message;
      try {
        message = JSON.parse(event.data);
      } catch {
        return;
      }
      if (message.type === "pong") this.pong(message);
      else this.on.message(message);
    };
    socket.onclose = () => this.socket === socket && this.lost();
  }

  /** Ask whether the engine is there; give the connection up when it has not answered for long. */
  watch() {
    if (this.unanswered < UNANSWERED_PINGS) {
      this.unanswered += 1;
      this.ping();
      return;
    }
    const { socket } = this;
    this.lost();
    // It would wait for the other side's consent: by now nobody listens to it any more.
    socket.close();
  }

  lost() {
    clearInterval(this.pinger);
    this.socket = null;
    this.on.close();
    this.timer = setTimeout(() => this.connect(), RETRY_MS[Math.min(this.tries, RETRY_MS.length - 1)]);
    this.tries += 1;
  }

  retryNow() {
    if (!this.socket) this.connect();
  }

  ping() {
    this.send({ type: "ping", token: performance.now() });
  }

  pong({ token, session_s }) {
    const roundTrip = performance.now() - token;
    // Clocks drift: an old quick ping is forgotten slowly.
    this.roundTripMs *= 1.1;
    if (roundTrip > this.roundTripMs) return;
    this.roundTripMs = roundTrip;
    this.offsetMs = session_s * 1000 - (token + roundTrip / 2);
  }

  /** Ask for a control; `atMs` is the key press's own time stamp. */
  control(name, value = null, atMs = performance.now()) {
    const message = { type: "control", name, value };
    if (this.offsetMs !== null) message.at_s = (atMs + this.offsetMs) / 1000;
    return this.send(message);
  }

  send(message) {
    if (!this.connected) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }
}
