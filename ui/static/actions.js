// What a person can do beside answering: skip, ask, flag; and what they can open: guidelines, own labels, questions.
// Each takes the page, as `label.js` has it.

import * as panels from "./panels.js";

export function skip(page) {
  if (!page.free()) return undefined;
  const { task } = page.view;
  if (task.options.may_skip === false) return page.say("This set does not allow skipping. You can ask the lead (a).");
  const send = async (reason) => {
    const body = { task: task.id, reason, seconds: page.activity.seconds };
    page.deliver("/api/skip", body).then((reply) => reply && page.next()); // kept in the outbox: nothing to wait for
  };
  return panels.ask({
    title: "Skip this task",
    lead: "Why? Skipping costs you nothing.",
    choices: task.options.skip_reasons ?? [],
    placeholder: "Another reason",
    verb: "Skip",
    required: true,
    send,
  });
}

export function ask(page) {
  if (!page.free()) return;
  const { task } = page.view;
  const send = async (text) => {
    await page.server.post("/api/ask", { task: task.id, text });
    await page.next();
    page.say("Your question is with the lead. The task comes back when it is answered.");
  };
  panels.ask({
    title: "Ask the lead",
    lead: "Everybody in the project will see the question and its answer. The task comes back to you.",
    placeholder: "What is unclear?",
    verb: "Ask",
    required: true,
    send,
  });
}

export function flag(page) {
  if (!page.free()) return;
  const { task } = page.view;
  const send = async (reason) => {
    await page.server.post("/api/flag", { task: task.id, reason });
    await page.next();
    page.say("Thank you. The prompt is taken away from everyone until a reviewer has looked at it.");
  };
  panels.ask({
    title: "Flag this prompt",
    lead: "A flagged prompt is taken away from everyone. Use it for prompts that nobody should label.",
    placeholder: "What is wrong with the prompt?",
    verb: "Flag",
    required: true,
    send,
  });
}

export function guidelines(page) {
  const html = page.view?.task.guideline_html;
  if (html) panels.guidelines(html);
  else page.say("The guidelines are shown with a task.");
}

export async function mine(page) {
  const reply = await page.drawer(`/api/mine?project=${page.project}&limit=50`);
  if (reply) panels.mine(reply.labels, (task) => page.reopen(task));
}

export async function questions(page) {
  const reply = await page.drawer(`/api/questions?project=${page.project}`);
  if (!reply) return;
  page.top.unread(0);
  panels.questions(reply.questions);
}
