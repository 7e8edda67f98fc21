// Talking to the server, and the outbox: what a person has submitted stays in this browser until the server has said
// that it is stored.

const LONGEST = 10_000; // between two tries, in milliseconds
const PATIENCE = 20_000; // for one answer

/** The server has understood and said no: the sentence is for the person. */
export class Refused extends Error {
  constructor(status, say) {
    super(say);
    this.status = status;
  }
}

/** No answer, or the server is in trouble: try again. */
export class Unreachable extends Error {}

export class Server {
  /** @param {string} root what stands before /api and /static, without a slash at its end */
  constructor(root) {
    this.root = root;
  }

  get(path) {
    return this.#call(path, { method: "GET" });
  }

  post(path, body) {
    return this.#call(path, { method: "POST", body: JSON.stringify(body) });
  }

  /** For the moment in which the page closes: nobody waits for the answer. */
  beacon(path, body) {
    navigator.sendBeacon(this.root + path, new Blob([JSON.stringify(body)], { type: "text/plain" }));
  }

  signIn() {
    const here = location.pathname + location.search;
    location.assign(`${this.root}/login?next=${encodeURIComponent(here)}`);
    return new Promise(() => {}); // the page goes away; nothing that waits for this call may run on
  }

  async #call(path, request) {
    const headers = { "X-Prefdata": "1", Accept: "application/json" };
    if (request.body) headers["Content-Type"] = "application/json";
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), PATIENCE);
    let status = 0;
    let reply = null;
    try {
      const answer = await fetch(this.root + path, {
        ...request,
        headers,
        credentials: "same-origin",
        cache: "no-store",
        signal: stop.signal,
      });
      status = answer.status;
      reply = await answer.json().catch(() => null);
    } catch {
      throw new Unreachable(path);
    } finally {
      clearTimeout(timer);
    }
    if (status === 401) return this.signIn();
    if (status >= 200 && status < 300 && reply !== null) return reply;
    // Only our own server says no in a sentence. Anything else, an error page of a proxy say, may pass.
    if (status >= 400 && status < 500 && status !== 429 && reply?.say) throw new Refused(status, reply.say);
    throw new Unreachable(path);
  }
}

/** Tries until there is an answer: at once, then after 0.5, 1, 2, 4, 8, 10, 10 ... seconds, or when the network is back. */
export async function insist(call, waiting = () => {}) {
  for (let pause = 500; ; pause = Math.min(pause * 2, LONGEST)) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      waiting(pause);
      await new Promise((resume) => {
        const timer = setTimeout(wake, pause);
        function wake() {
          clearTimeout(timer);
          removeEventListener("online", wake);
          resume();
        }
        addEventListener("online", wake);
      });
    }
  }
}

/** A random name; crypto.randomUUID is missing where the page is served without TLS. */
export function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** localStorage, or memory where the browser forbids it. */
export const memory = {
  fallback: new Map(),
  get(key) {
    try {
      return JSON.parse(localStorage.getItem(key) ?? "null") ?? this.fallback.get(key) ?? null;
    } catch {
      return this.fallback.get(key) ?? null;
    }
  },
  set(key, value) {
    try {
      localStorage.setItem(key, JSON.stringify(value));
      return true;
    } catch {
      this.fallback.set(key, value);
      return false;
    }
  },
  delete(key) {
    this.fallback.delete(key);
    try {
      localStorage.removeItem(key);
    } catch {
      // nothing was kept there
    }
  },
  keys(prefix) {
    const found = [...this.fallback.keys()];
    try {
      found.push(...Object.keys(localStorage));
    } catch {
      // only the fallback, then
    }
    return found.filter((key) => key.startsWith(prefix));
  },
};

/**
 * What one person has submitted and the server has not acknowledged. Each entry has its own key in localStorage, so that
 * two tabs cannot overwrite each other's; the same client key on every try lets the server store it once.
 */
export class Outbox {
  /** @param {(state: string, kind: string, more?: string) => void} say tells the person how it stands */
  constructor(server, who, say) {
    this.server = server;
    this.prefix = `prefdata:out:${who}:`;
    this.say = say;
  }

  get entries() {
    const all = memory
      .keys(this.prefix)
      .map((name) => memory.get(name))
      .filter((entry) => entry !== null);
    return all.sort((one, other) => one.at - other.at);
  }

  holds(task) {
    return this.entries.some((entry) => entry.body.task === task);
  }

  /** Keeps the entry, then sends it until the server has answered. Refused: the server's sentence; the entry is gone. */
  async send(route, body) {
    const entry = { route, body: { ...body, key: freshKey() }, at: Date.now() };
    const kept = memory.set(this.prefix + entry.body.key, entry);
    return this.#deliver(entry, kept);
  }

  /** What an earlier page has left behind. Returns the sentences of what was refused. */
  async drain() {
    const refused = [];
    for (const entry of this.entries) {
      try {
        await this.#deliver(entry, true);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        refused.push(error.message);
      }
    }
    return refused;
  }

  async #deliver(entry, kept) {
    const name = this.prefix + entry.body.key;
    const [state, more] = kept
      ? ["Saved here, sending …", "Saved here. The server does not answer; your label is sent as soon as it does."]
      : ["Sending …", "The server does not answer yet. Please keep this page open: this browser keeps nothing else."];
    this.say(state, "busy");
    try {
      const reply = await insist(
        () => this.server.post(entry.route, entry.body),
        () => this.say(state, "wait", more),
      );
      memory.delete(name);
      this.say("Saved", "done");
      return reply;
    } catch (error) {
      if (error instanceof Refused) {
        memory.delete(name);
        this.say("Not saved", "bad");
      }
      throw error;
    }
  }
}
