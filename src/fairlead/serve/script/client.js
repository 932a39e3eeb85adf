// Fairlead topics in a browser: follow, publish, read. One file, no dependency, any number of topics. Types: $client.d.ts beside it.
//
//   import { Topics } from "/events/$client.js";
//   const topics = new Topics("/events");
//   const orders = topics.follow("orders", { after: "-1", event: (e) => show(e.data), gap: (g) => reload(), end: () => done() });
//   await topics.publish("orders", { id: 1 }, { type: "paid" });
//   orders.stop();
//
// Rules
// 1. One topic is followed by an EventSource; from the second on all of them share one WebSocket, and each goes on where it was:
//    the offset is the same. So a page never holds more than one connection (browsers allow six to a server over HTTP/1.1).
// 2. "now" becomes an offset before anything else, so what is published while we connect, or reconnect, is not missed. Events come
//    in order and once.
// 3. After a loss we come back by ourselves: after a random time that doubles up to `most` ms, from the last offset. What the server
//    no longer keeps is told to `gap`, and the topic goes on with the earliest that there is.
// 4. A publish carries a dedupe key, and is repeated until it is answered or `timeout` ms are over: it is appended once.

const PROTOCOL = "fairlead.v1.json";
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504]);
const PING = 25000, PONG = 10000;

export class TopicError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.name = "TopicError";
    this.status = status;
  }
}

export class Topics {
  // base: the URL of the topic route without the topic's name. With `name` it is the URL of that one topic.
  constructor(base, options = {}) {
    this.base = new URL(base, globalThis.location?.href).href.replace(/\/$/, "");
    this.options = { via: "auto", least: 250, most: 30000, timeout: 30000, name: "", withCredentials: false, ...options };
    this.followed = new Map();
    this.waiting = new Map();
    this.number = this.tries = 0;
    this.socket = this.again = null;
    this.closed = false;
  }

  url(topic, query = {}) {
    const own = topic === this.options.name && topic !== "";
    const at = new URL(own ? this.base : `${this.base}/${encodeURIComponent(topic)}`);
    for (const [name, value] of Object.entries(query)) at.searchParams.set(name, value);
    return at;
  }

  // ---- following

  follow(topic = this.options.name, handlers = {}) {
    if (this.closed) throw new TopicError("these topics are closed");
    if (this.followed.has(topic)) throw new TopicError(`${topic} is followed already`);
    const one = new Following(this, topic, handlers);
    this.followed.set(topic, one);
    one.begin();
    return one;
  }

  get crowded() {
    const via = this.options.via;
    return via === "websocket" || (via === "auto" && (this.socket !== null || this.followed.size > 1));
  }

  // A topic knows its offset now: give it a connection.
  attach(one) {
    if (!this.crowded) return one.listen();
    for (const other of this.followed.values()) other.unlisten();
    if (this.socket === null && this.again === null) this.dial();
    else for (const other of this.followed.values()) this.subscribe(other);
  }

  pause() {
    const most = Math.min(this.options.most, this.options.least * 2 ** this.tries++);
    return most / 4 + Math.random() * most * 0.75;
  }

  // ---- the one WebSocket

  dial() {
    this.again = null;
    const at = this.url(this.options.name || "_", { sub: "0" });
    at.protocol = at.protocol.replace("http", "ws");
    const socket = this.socket = new WebSocket(at, PROTOCOL);
    socket.onopen = () => {
      this.heard();
      for (const one of this.followed.values()) this.subscribe(one);
      for (const [id, { frame }] of this.waiting) if (frame !== null) this.send({ id, ...frame });
    };
    socket.onmessage = (message) => {
      this.tries = 0;
      this.heard();
      this.frame(JSON.parse(message.data));
    };
    socket.onclose = (event) => this.lost(event);
  }

  send(frame) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  ask(frame, done) {
    const id = ++this.number;
    this.waiting.set(id, { frame, done });
    this.send({ id, ...frame });
    return id;
  }

  subscribe(one) {
    if (one.offset === null || one.asked || this.socket?.readyState !== WebSocket.OPEN) return;
    one.asked = true;
    const id = ++this.number;
    this.waiting.set(id, { frame: null, done: (said) => one.subscribed(said) });
    this.send({ id, sub: { topic: one.topic, after: one.offset } });
  }

  frame(said) {
    if ("id" in said && (said.ok || said.error)) {
      const asked = this.waiting.get(said.id);
      this.waiting.delete(said.id);
      asked?.done(said);
    } else if (said.topic !== undefined) {
      this.followed.get(said.topic)?.take(said);
    }
  }

  // Any word is a sign of life; silence is asked about, and silence after that is a loss.
  heard() {
    clearTimeout(this.ping);
    clearTimeout(this.pong);
    this.ping = setTimeout(() => {
      this.send({ ping: 1 });
      const socket = this.socket;
      this.pong = setTimeout(() => this.socket === socket && this.lost({ code: 1006, reason: "silent" }), PONG);
    }, PING);
  }

  lost({ code, reason }) {
    clearTimeout(this.ping);
    clearTimeout(this.pong);
    if (this.socket) this.socket.onclose = this.socket.onmessage = null;
    this.socket?.close();
    this.socket = null;
    for (const [id, asked] of this.waiting) if (asked.frame === null) this.waiting.delete(id);
    for (const one of this.followed.values()) one.asked = false;
    if (this.closed) return;
    if (code === 3500) {
      for (const one of [...this.followed.values()]) one.fail(new TopicError(reason || "the server wants us no more"));
      return;
    }
    for (const one of this.followed.values()) one.say("connecting");
    this.again = setTimeout(() => this.dial(), this.pause());
  }

  // ---- publishing and reading

  async publish(topic, data, { type = "", key = "", dedupe = unique(), contentType = "application/json", timeout } = {}) {
    const ends = Date.now() + (timeout ?? this.options.timeout);
    if (this.socket !== null) return this.published({ pub: { topic, data, type, key, dedupe, content_type: contentType } }, ends);
    const headers = { "content-type": contentType, "fairlead-dedupe": dedupe };
    if (type) headers["fairlead-type"] = type;
    if (key) headers["fairlead-key"] = key;
    const body = contentType === "application/json" ? JSON.stringify([data]) : data;
    const answer = await this.fetched(topic, {}, { method: "POST", headers, body }, ends);
    return { offset: answer.headers.get("stream-next-offset"), duplicate: false };
  }

  published(frame, ends) {
    return new Promise((resolve, reject) => {
      const id = this.ask(frame, (said) => {
        clearTimeout(timer);
        if (said.error) reject(new TopicError(said.error.message, said.error.status));
        else resolve({ offset: said.o, duplicate: Boolean(said.duplicate) });
      });
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new TopicError("the publish was not answered in time; it may have been done"));
      }, Math.max(0, ends - Date.now()));
    });
  }

  async read(topic = this.options.name, after = "-1", timeout = this.options.timeout) {
    const answer = await this.fetched(topic, { offset: after, form: "frames" }, { cache: "no-store" }, Date.now() + timeout);
    const said = await answer.json();
    return { events: said.events.map(event), next: said.next, upToDate: Boolean(said.up_to_date), closed: Boolean(said.closed) };
  }

  // One request, again and again while the trouble is a passing one and there is time.
  async fetched(topic, query, init, ends) {
    init = { credentials: this.options.withCredentials ? "include" : "same-origin", ...init };
    for (let tries = 0; ; tries++) {
      let answer = null, why = "the server is not reached";
      try {
        answer = await fetch(this.url(topic, query), { ...init, signal: AbortSignal.timeout(Math.max(1, ends - Date.now())) });
      } catch (error) {
        why = String(error.message || error);
      }
      if (answer?.ok) return answer;
      const pause = Math.random() * Math.min(this.options.most, this.options.least * 2 ** tries);
      const passing = answer === null || PASSING.has(answer.status);
      if (!passing || Date.now() + pause >= ends || this.closed) {
        const text = answer ? (await answer.text()).trim().slice(0, 300) : why;
        const error = new TopicError(text || `status ${answer.status}`, answer?.status ?? 0);
        error.earliest = answer?.headers.get("stream-earliest-offset") ?? null;
        throw error;
      }
      await new Promise((done) => setTimeout(done, pause));
    }
  }

  // No more of anything.
  close() {
    this.closed = true;
    clearTimeout(this.again);
    for (const one of [...this.followed.values()]) one.stop();
    if (this.socket) this.lost({ code: 1000 });
  }
}

// One topic that is followed: `offset` goes on after the last event; `state` is connecting, open, or over.
class Following {
  constructor(topics, topic, handlers) {
    const { after = "now", ...rest } = handlers;
    this.topics = topics;
    this.topic = topic;
    this.handlers = rest;
    this.after = after;
    this.offset = after === "now" ? null : after;
    this.state = "connecting";
    this.tries = 0;
    this.asked = false;
    this.source = this.again = null;
  }

  get via() {
    return this.source ? "eventsource" : "websocket";
  }

  async begin() {
    while (this.offset === null && this.state !== "over") {
      try {
        this.offset = (await this.topics.read(this.topic, "now")).next;
      } catch (error) {
        if (error.status && !PASSING.has(error.status)) return this.fail(error);
      }
    }
    if (this.state !== "over") this.topics.attach(this);
  }

  say(state) {
    if (this.state === state || this.state === "over") return;
    this.state = state;
    this.handlers.state?.(state, this);
  }

  // ---- by EventSource

  listen() {
    this.unlisten();
    const { withCredentials } = this.topics.options;
    const at = this.topics.url(this.topic, { offset: this.offset, form: "frames" });
    const source = this.source = new EventSource(at, { withCredentials });
    source.onopen = () => this.say("open");
    source.onmessage = (message) => {
      this.tries = 0;
      this.take(JSON.parse(message.data));
    };
    source.onerror = () => {
      if (this.source !== source) return;
      this.say("connecting");  // the browser comes back by itself, with Last-Event-ID …
      if (source.readyState === EventSource.CLOSED) this.look();  // … unless the answer was an error
    };
  }

  unlisten() {
    clearTimeout(this.again);
    this.source?.close();
    this.source = null;
  }

  // EventSource does not say what went wrong: a read does, and brings what has come meanwhile.
  async look() {
    this.unlisten();
    const most = Math.min(this.topics.options.most, this.topics.options.least * 2 ** this.tries++);
    const later = () => {
      this.again = setTimeout(() => this.topics.attach(this), most / 4 + Math.random() * most * 0.75);
    };
    try {
      const page = await this.topics.read(this.topic, this.offset, 5000);
      if (this.state === "over") return;
      this.take({ topic: this.topic, next: page.next, events: page.events, closed: page.closed && page.upToDate });
    } catch (error) {
      if (this.state === "over") return;
      if (error.status === 410) this.take({ gap: { earliest: error.earliest ?? "-1", next: "" } });
      else if (error.status && !PASSING.has(error.status)) return this.fail(error);
    }
    if (this.state !== "over") later();
  }

  // ---- by WebSocket

  subscribed(said) {
    if (this.state === "over") return;
    if (!said.error) {
      this.offset = said.next ?? this.offset;
      return this.say("open");
    }
    this.asked = false;
    const { status, message, earliest } = said.error;
    if (status === 410 && earliest) {
      this.take({ gap: { earliest, next: "" } });
      this.topics.subscribe(this);
    } else if (PASSING.has(status)) {
      this.again = setTimeout(() => this.topics.subscribe(this), this.topics.pause());
    } else {
      this.fail(new TopicError(message, status));
    }
  }

  // ---- either way

  take(said) {
    if (this.state === "over") return;
    if (said.gap) {
      if (said.gap.earliest) this.offset = said.gap.earliest;
      else if (said.gap.next) this.offset = said.gap.next;
      this.handlers.gap?.({ topic: this.topic, earliest: null, dropped: 0, ...said.gap }, this);
    }
    for (const one of said.events ?? []) {
      if (this.state === "over") return;
      const heard = one.offset ? one : event(one);
      this.offset = heard.offset;
      this.handlers.event?.(heard, this);
    }
    if (said.next && !said.gap) this.offset = said.next;
    if (said.closed) this.over(() => this.handlers.end?.(said.gone ? "gone" : "closed", this));
  }

  fail(error) {
    this.over(() => (this.handlers.error ? this.handlers.error(error, this) : console.error(`topic ${this.topic}:`, error)));
  }

  over(last) {
    if (this.state === "over") return;
    this.say("over");
    this.unlisten();
    this.topics.followed.delete(this.topic);
    last?.();
  }

  // Follow it no more.
  stop() {
    if (this.state === "over") return;
    if (this.asked) this.topics.ask({ unsub: this.topic }, () => {});
    this.over();
  }
}

function event({ o, type = "", key = "", at = 0, data, base64 }) {
  const value = base64 === undefined ? data : Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return { offset: o, type, key, at, data: value };
}

function unique() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
