// The navigation bar of the Gradio pages: which links it has depends on who is signed in. Names come from the server and are
// set as text, never as HTML.

const STYLE = `
.pd-nav { display: flex; flex-wrap: wrap; align-items: center; gap: .15rem .25rem; padding: .35rem .75rem; margin: 0;
  font: 0.95rem/1.4 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  background: #ffffff; color: #1d2227; border-bottom: 1px solid #dcdfe2; box-sizing: border-box; width: 100%; }
.pd-nav a, .pd-nav button { display: inline-flex; align-items: center; min-height: 2.4rem; padding: 0 .7rem; border: 0;
  border-radius: .45rem; background: none; color: #3f4953; font: inherit; text-decoration: none; cursor: pointer; }
.pd-nav a:hover, .pd-nav button:hover { background: #eceff1; color: #1d2227; }
.pd-nav a[aria-current] { color: #2a5c96; font-weight: 650; box-shadow: inset 0 -2px #2a5c96; border-radius: .45rem .45rem 0 0; }
.pd-nav a:focus-visible, .pd-nav button:focus-visible { outline: 3px solid #2a5c96; outline-offset: -2px; }
.pd-nav form { margin: 0 0 0 auto; display: flex; align-items: center; gap: .25rem; }
.pd-nav .pd-who { color: #5b656f; font-size: .875rem; padding: 0 .25rem; }
.dark .pd-nav { background: #1c2024; color: #e7e9eb; border-color: #363c43; }
.dark .pd-nav a, .dark .pd-nav button { color: #c3cad1; }
.dark .pd-nav a:hover, .dark .pd-nav button:hover { background: #2a3036; color: #ffffff; }
.dark .pd-nav a[aria-current] { color: #8fb9ea; box-shadow: inset 0 -2px #8fb9ea; }
.dark .pd-nav .pd-who { color: #a1abb4; }
@media (max-width: 36rem) { .pd-nav { padding: .1rem .2rem; flex-wrap: nowrap; overflow-x: auto; gap: 0; }
  .pd-nav a, .pd-nav button { padding: 0 .42rem; font-size: .9rem; white-space: nowrap; } .pd-nav .pd-who { display: none; } }
@media print { .pd-nav { display: none; } }`;

// This script stands at ROOT/static/frame.js, and a proxy may have put a path before ROOT.
const source = document.currentScript?.src ?? [...document.scripts].find((one) => one.src.includes("/static/frame.js"))?.src;
const root = new URL("..", source ?? new URL("../static/frame.js", location.href)).pathname.replace(/\/$/, "");

function make(name, words, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = words;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function fill(nav, frame) {
  const links = frame.pages.map((page) => {
    const href = `${root}${page.prefix}/`;
    return make("a", page.name, location.pathname.startsWith(href) ? { href, "aria-current": "page" } : { href });
  });
  const form = make("form", "", { method: "post", action: `${root}/logout` });
  form.append(make("span", frame.pseudonym, { class: "pd-who", title: `Signed in as ${frame.pseudonym}, ${frame.role}` }));
  form.append(make("button", "Sign out", { type: "submit" }));
  nav.replaceChildren(...(links.length > 1 ? links : []), form);
}

// Gradio shows an error where a session is over; signing in again is what helps.
const plain = window.fetch;
window.fetch = async (...given) => {
  const answer = await plain(...given);
  if (answer.status === 401 && answer.url.startsWith(location.origin + root) && answer.url.includes("/gradio_api/")) {
    location.assign(`${root}/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  }
  return answer;
};

async function start() {
  document.head.append(make("style", STYLE));
  const answer = await plain(`${root}/api/frame`, { headers: { "X-Prefdata": "1" }, credentials: "same-origin" });
  if (!answer.ok) return;
  const nav = make("nav", "", { class: "pd-nav", "aria-label": "Pages" });
  fill(nav, await answer.json());
  document.body.prepend(nav);
}

start().catch((error) => console.error(error));
