// One task as annotators see it, inside the set-up page: the label page's own drawing, of which nothing is sent.

import { h } from "./dom.js";
import { TaskView } from "./task.js";

const place = document.querySelector(".pd");
const dark = () => document.body.classList.toggle("dark", parent.document.body.classList.contains("dark"));

function draw() {
  const task = JSON.parse(document.querySelector("#task").textContent);
  const nothing = () => {};
  const done = () => { notice.hidden = false; notice.textContent = "This is how an answer is given. Nothing is sent from here."; };
  const notice = h("div", { class: "pd-say", role: "status", hidden: true });
  const hooks = { root: new URL("..", import.meta.url).pathname.replace(/\/$/, ""), say: (words) => { notice.hidden = !words; notice.textContent = words; },
    draft: nothing, submit: done, lifted: nothing, skip: done, ask: done, flag: done, undo: done };
  const view = new TaskView(task, hooks, false);
  view.built = true;
  place.replaceChildren(h("div", { class: "pd-stage" }, view.main), h("div", { class: "pd-dock" }, notice, view.bar));
  view.measure();
}

dark();
new MutationObserver(dark).observe(parent.document.body, { attributes: true, attributeFilter: ["class"] });
try {
  draw();
} catch (error) {
  console.error(error);
  place.textContent = "The preview could not be drawn.";
}
