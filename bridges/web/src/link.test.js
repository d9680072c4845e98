// `npm test`: when a connection is given up and tried again, under a virtual clock.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { Link } from "./link.js";

let sockets;
let heard;
let link;

class Socket {
  static OPEN = 1;
  readyState = 0;
  sent = [];

  constructor() {
    sockets.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.readyState = 2; // and stays so: the other side does not answer
  }

  opened() {
    this.readyState = 1;
    this.onopen();
  }
}

/** Let time pass in steps of a tenth of a second. */
function pass(seconds, each = () => {}) {
  for (let i = 0; i < 10 * seconds; i++) {
    mock.timers.tick(100);
    each();
  }
}

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  sockets = [];
  heard = [];
  Object.assign(globalThis, { WebSocket: Socket, addEventListener() {}, document: { addEventListener() {} } });
  link = new Link("ws://there/ws", {
    open: () => heard.push("open"), close: () => heard.push("close"), pose: () => heard.push("pose"), message() {},
  });
});

test("a connection that falls silent is given up and made again", () => {
  sockets[0].opened();
  pass(20, () => sockets[0].onmessage({ data: new ArrayBuffer(8) }));
  assert.equal(sockets.length, 1);
  heard.length = 0;
  pass(5.9);
  assert.ok(link.connected);
  pass(2.4);
  assert.deepEqual(heard, ["close"]);
  assert.equal(sockets.length, 2);
  sockets[1].opened();
  // What the old one still has to say is nobody's.
  sockets[0].onmessage({ data: new ArrayBuffer(8) });
  sockets[0].onclose();
  assert.deepEqual(heard, ["close", "open"]);
  assert.ok(link.connected);
});

test("an engine that only answers pings is there", () => {
  sockets[0].opened();
  pass(60, () => {
    for (const { token } of sockets[0].sent.splice(0)) sockets[0].onmessage({ data: JSON.stringify({ type: "pong", token, session_s: 1 }) });
  });
  assert.deepEqual([sockets.length, heard], [1, ["open"]]);
});

test("to connect may not take for ever", () => {
  pass(8.4);
  assert.deepEqual([sockets.length, heard], [2, ["close"]]);
  sockets[0].opened();
  assert.deepEqual(heard, ["close"], "too late");
  sockets[1].opened();
  assert.ok(link.connected);
});

test("an end that is told is heard once, and tried again later and later", () => {
  for (const [tries, waitMs] of [250, 500, 1000, 2000, 2000].entries()) {
    sockets.at(-1).onclose();
    sockets.at(-1).onclose();
    assert.equal(heard.length, tries + 1);
    mock.timers.tick(waitMs - 1);
    assert.equal(sockets.length, tries + 1);
    mock.timers.tick(1);
    assert.equal(sockets.length, tries + 2);
  }
  sockets.at(-1).onclose();
  link.retryNow();
  assert.equal(sockets.length, 7, "at once, when asked");
  mock.timers.tick(2000);
  assert.equal(sockets.length, 7, "and once");
});
