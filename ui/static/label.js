// The labelling page. `mount` draws it into the empty Gradio page and runs it: fetch a task, take the answer, keep it
// until the server has it, fetch the next.

import * as actions from "./actions.js";
import { Activity } from "./active.js";
import { DOUBLE, button, calm, h, reveal, shield } from "./dom.js";
import { Keys } from "./keys.js";
import { Outbox, Refused, Server, insist, memory } from "./net.js";
import * as panels from "./panels.js";
import * as screens from "./screens.js";
import { TaskView } from "./task.js";
import { Top } from "./top.js";

const BEAT = 60_000; // how often the lease is renewed
const LOOK = 20_000; // how often an empty queue is asked again
const PLAIN = "prefdata:plain";
const ON_ITS_WAY = "Your label is still on its way. Please wait a moment.";

export async function mount(place, root) {
  document.documentElement.classList.add("pd-page");
  await style(root);
  return new Page(place, root).start();
}

/** The page must not be seen before its style is there. */
function style(root) {
  return Promise.all(
    ["label", "protocols"].map(
      (name) =>
        new Promise((ready) => {
          document.head.append(
            h("link", { rel: "stylesheet", href: `${root}/static/${name}.css`, onload: ready, onerror: ready }),
          );
        }),
    ),
  );
}

const enter = (does, run) => ({ keys: ["Enter"], show: "Enter", does, run });

class Page {
  constructor(place, root) {
    this.place = place;
    this.server = new Server(root);
    this.activity = new Activity();
    this.keys = new Keys();
    this.plain = memory.get(PLAIN) === true;
    this.view = null; // the task on the page
    this.turn = 0; // counts what was asked for, so that a late answer cannot replace a newer page
    this.stage = h("div", { class: "pd-stage" });
    this.notice = h("div", { class: "pd-say", role: "status", "aria-live": "polite", hidden: true });
    this.dock = h("div", { class: "pd-dock" }, this.notice);
    this.told = h("div", { class: "pd-told", role: "status", "aria-live": "polite" });
    this.keys.busy = () => this.view?.locked === true;
    this.between = false; // does something to read stand where the answers will be?
  }

  async start() {
    const waiting = () => (this.place.firstElementChild.textContent = "The server does not answer. Trying again …");
    this.me = await insist(() => this.server.get("/api/me"), waiting);
    this.who = `${this.server.root}|${this.me.store ?? ""}|${this.me.pseudonym}`;
    this.top = new Top(this.server.root, this.me, {
      guidelines: () => actions.guidelines(this),
      mine: () => actions.mine(this),
      questions: () => actions.questions(this),
      plain: () => this.togglePlain(),
      help: () => panels.help(this.keys.all),
      project: (id) => this.choose(id),
    });
    this.outbox = new Outbox(this.server, this.who, (state, kind, more = "") => {
      this.top.say(state, kind);
      if (more || kind === "done") this.say(more, true);
    });
    this.place.replaceChildren(this.top.el, this.stage, this.dock, this.told);
    this.top.plain.setAttribute("aria-checked", String(this.plain));
    this.listen();
    shield(this.stage, this.dock);
    this.keys.page = this.pageKeys();
    this.pick();
    const refused = await this.outbox.drain();
    await this.next();
    if (refused.length) this.say(refused.join(" "), true);
  }

  pick() {
    const wanted =
      Number(new URLSearchParams(location.search).get("project")) || memory.get(`prefdata:project:${this.who}`);
    const list = this.me.projects;
    this.project =
      (list.find((it) => it.id === wanted && it.open) ?? list.find((it) => it.open) ?? list[0])?.id ?? null;
    this.top.projects(list, this.project);
  }

  async choose(id) {
    if (this.view?.locked) {
      this.top.projects(this.me.projects, this.project);
      return this.say(ON_ITS_WAY);
    }
    await this.leave();
    this.project = id;
    memory.set(`prefdata:project:${this.who}`, id);
    return this.next();
  }

  listen() {
    setInterval(() => this.beat(), BEAT);
    addEventListener("pagehide", () => {
      if (this.view && !this.view.task.revision && !this.outbox.holds(this.view.task.id)) {
        this.server.beacon("/api/release", { task: this.view.task.id });
      }
    });
    addEventListener("pageshow", (event) => event.persisted && this.next());
    addEventListener("resize", () => this.view?.measure());
    document.addEventListener("visibilitychange", () => document.hidden && this.keep());
  }

  pageKeys() {
    return [
      { keys: ["u"], show: "u", does: "undo: open my last label again", run: () => this.undo() },
      { keys: ["s"], show: "s", does: "skip, with a reason", run: () => actions.skip(this) },
      { keys: ["a"], show: "a", does: "ask the lead", run: () => actions.ask(this) },
      { keys: ["f"], show: "f", does: "flag a bad prompt", run: () => actions.flag(this) },
      { keys: ["p"], show: "p", does: "plain text or formatted", run: () => this.togglePlain() },
      { keys: ["g"], show: "g", does: "guidelines", run: () => actions.guidelines(this) },
      { keys: ["m"], show: "m", does: "my labels", run: () => actions.mine(this) },
      { keys: ["q"], show: "q", does: "questions and answers", run: () => actions.questions(this) },
      { keys: ["?"], show: "?", does: "these keys", run: () => panels.help(this.keys.all) },
    ];
  }

  say(sentence, stay = false) {
    clearTimeout(this.hush);
    this.notice.hidden = !sentence;
    this.notice.textContent = sentence;
    if (sentence && !stay) this.hush = setTimeout(() => (this.notice.hidden = true), 8000);
  }

  // --- tasks ------------------------------------------------------------------------------------------------------

  /** Asks until the server answers; null where a newer call has overtaken this one. */
  async fetch(call) {
    const turn = (this.turn += 1);
    clearTimeout(this.look);
    try {
      const reply = await insist(call, () => {
        this.top.say("Waiting for the server …", "wait");
        this.say("The server does not answer. Nothing is lost; the page tries again by itself.", true);
      });
      if (this.top.status.classList.contains("is-wait")) {
        this.top.say("", "done");
        this.say("");
      }
      if (turn !== this.turn) return null;
      return reply;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (turn === this.turn) this.say(error.message, true);
      return null;
    }
  }

  async next() {
    if (this.project === null) return this.message("You have no project yet. The lead will add you to one.");
    const reply = await this.fetch(() => this.server.get(`/api/next?project=${this.project}`));
    if (reply) this.show(reply);
    else if (!this.view) this.message("There is nothing to show.", true);
    return undefined;
  }

  show(reply) {
    this.say("");
    if (reply.state === "task") {
      try {
        return this.showTask(reply.task);
      } catch (error) {
        console.error(error);
        return this.message(
          "This task cannot be shown. Please tell the lead; its number is " + reply.task.id + ".",
          true,
        );
      }
    }
    this.view = null;
    this.keys.task = [];
    if (reply.state === "acknowledge") return this.acknowledge(reply.guideline);
    this.message(reply.say, true);
    if (reply.waiting) this.look = setTimeout(() => this.next(), LOOK);
    return undefined;
  }

  showTask(task) {
    const draft = memory.get(this.draftName);
    const mine = draft?.task === task.id && draft.revision === task.revision ? draft : null;
    this.activity.start(task.options.idle ?? 60, mine?.seconds ?? 0);
    const hooks = {
      root: this.server.root,
      say: (sentence) => this.say(sentence),
      tell: (words) => (this.told.textContent = words),
      draft: () => this.keepSoon(),
      submit: (answer) => this.submit(answer),
      lifted: () => (this.keys.task = this.taskKeys()),
      skip: () => actions.skip(this),
      ask: () => actions.ask(this),
      flag: () => actions.flag(this),
      undo: () => this.undo(),
    };
    this.view?.closed?.();
    this.view = new TaskView(task, hooks, this.plain);
    if (mine?.answer ?? task.answer) this.view.restore(mine?.answer ?? task.answer);
    this.view.built = true; // from here on a change is the person's
    this.stage.replaceChildren(...(task.revision ? [screens.correcting(() => this.back())] : []), this.view.main);
    this.dock.replaceChildren(this.notice, this.view.bar);
    this.keys.task = this.taskKeys();
    this.top.far(task.progress);
    scrollTo(0, 0);
    this.view.measure();
    calm.since = performance.now();
    if (this.between) {
      calm.until = calm.since + DOUBLE;
      this.keys.calm(DOUBLE);
    }
    this.between = false;
    this.told.textContent = task.question; // for those who hear the page: here is the next task
  }

  taskKeys() {
    const back = { keys: ["Escape"], show: "Esc", does: "leave my label as it was", run: () => this.back() };
    return this.view.task.revision ? [...this.view.keys, back] : this.view.keys;
  }

  message(sentence, again = false) {
    this.view = null;
    const look = () => this.next();
    this.keys.task = again ? [enter("look again", look)] : [];
    this.stage.replaceChildren(screens.message(sentence, again ? look : null));
    this.dock.replaceChildren(this.notice);
    this.top.far(null);
  }

  acknowledge(guideline) {
    const { project } = this;
    this.between = true;
    const go = async () => {
      const reply = await this.fetch(() => this.server.post("/api/acknowledge", { project, label: guideline.label }));
      if (reply) await this.next();
    };
    this.keys.task = [enter("I have read them", go)];
    this.stage.replaceChildren(screens.guidelines(guideline));
    this.dock.replaceChildren(this.notice, screens.bar("I have read them", go));
    scrollTo(0, 0);
  }

  // --- answers ----------------------------------------------------------------------------------------------------

  async submit(answer) {
    const { task } = this.view;
    const body = { task: task.id, answer, seconds: this.activity.seconds, guideline: task.guideline };
    const reply = await this.deliver("/api/submit", body);
    if (!reply) return;
    if (reply.feedback) this.feedback(reply.feedback);
    else await this.next();
  }

  /** Sends through the outbox; the task stays, locked, until the server has answered. Null: refused, and said so. */
  async deliver(route, body) {
    const { view } = this;
    view.lock(true);
    this.say("");
    try {
      const reply = await this.outbox.send(route, body);
      memory.delete(this.draftName);
      return reply;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      view.lock(false);
      if (error.status === 422) this.say(error.message, true);
      else this.gone(error.message);
      return null;
    }
  }

  /** The label cannot be taken any more: say why, leave the answer readable, offer the way on. */
  gone(sentence) {
    this.say("", true);
    const on = () => this.back();
    this.notice.replaceChildren(h("span", {}, sentence), button("Go on", on, { key: "Enter", kind: "pd-primary" }));
    this.notice.hidden = false;
    this.keys.task = [enter("go on with the next task", on)];
  }

  feedback(said) {
    const on = () => this.next();
    this.view = null;
    this.between = true;
    calm.since = performance.now(); // nor must a double click on an answer pass over what is said about it
    this.keys.task = [enter("go on", on)];
    this.stage.append(screens.feedback(said));
    this.dock.replaceChildren(this.notice, screens.bar("Go on", on));
    reveal(this.stage.lastChild);
  }

  async undo() {
    if (this.view?.locked) return this.say(ON_ITS_WAY);
    if (this.project === null) return undefined;
    await this.leave();
    const reply = await this.fetch(() => this.server.post("/api/undo", { project: this.project }));
    if (!reply) return undefined;
    if (reply.state === "task") return this.show(reply);
    return this.say(reply.say ?? "There is nothing to undo.");
  }

  /** Is there a task that may be acted on? */
  free() {
    if (this.view?.locked) this.say(ON_ITS_WAY);
    return Boolean(this.view) && !this.view.locked;
  }

  /** Leaves the task on the page for the next one. */
  async back() {
    await this.leave();
    await this.next();
  }

  /** Leaves the task on the page; what was begun for a correction is dropped with it. */
  async leave() {
    if (this.view?.task.revision) memory.delete(this.draftName);
    else this.keep();
  }

  // --- drafts, leases ---------------------------------------------------------------------------------------------

  get draftName() {
    return `prefdata:draft:${this.who}`;
  }

  keepSoon() {
    clearTimeout(this.later);
    this.later = setTimeout(() => this.keep(), 300);
  }

  /** A half-made answer survives a reload of the page. */
  keep() {
    clearTimeout(this.later);
    const { view } = this;
    if (!view || view.locked || !view.built) return;
    const answer = view.answer();
    if (JSON.stringify(answer) === JSON.stringify(view.task.answer ?? {})) return;
    memory.set(this.draftName, {
      task: view.task.id,
      revision: view.task.revision,
      answer,
      seconds: this.activity.seconds,
    });
  }

  async beat() {
    if (!this.activity.alive) return;
    const { view } = this;
    try {
      if (view && !view.locked && !view.task.revision) {
        const reply = await this.server.post("/api/alive", { task: view.task.id, seconds: this.activity.seconds });
        if (reply.ok === false && view === this.view)
          this.gone("This task went back to the others while you were away.");
      }
      this.me = await this.server.get("/api/me");
      this.top.unread(this.me.unread ?? 0);
    } catch {
      // the next beat, or the next submit, will tell
    }
  }

  // --- drawers ----------------------------------------------------------------------------------------------------

  togglePlain() {
    this.plain = !this.plain;
    memory.set(PLAIN, this.plain);
    this.top.plain.setAttribute("aria-checked", String(this.plain));
    this.view?.show(this.plain);
    this.say(this.plain ? "Plain text: every character as it was written." : "Formatted text.");
  }

  async reopen(id) {
    if (this.view?.locked) return this.say(ON_ITS_WAY);
    await this.leave();
    const reply = await this.fetch(() => this.server.get(`/api/task?id=${id}`));
    if (reply) this.show(reply);
    return undefined;
  }

  async drawer(path) {
    if (this.project === null) return null;
    try {
      return await this.server.get(path);
    } catch (error) {
      this.say(error instanceof Refused ? error.message : "The server does not answer. Try again in a moment.");
      return null;
    }
  }
}
