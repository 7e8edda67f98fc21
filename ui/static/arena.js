// Keys of the arena page: 1 left, 2 right, 3 tie, 4 both bad, once both answers are there.

const VOTES = { 1: "ar-vote-a", 2: "ar-vote-b", 3: "ar-vote-tie", 4: "ar-vote-both_bad" };

function buttonOf(id) {
  const found = document.getElementById(id);
  return found && (found.matches("button") ? found : found.querySelector("button"));
}

document.addEventListener("keydown", (event) => {
  const target = event.target;
  const writes = target.closest?.("input, textarea, select, [contenteditable]");
  if (writes) {
    // Shift+Enter asks both: the keys then are for the vote, not for the prompt.
    if (event.key === "Enter" && event.shiftKey && target.closest("#ar-prompt")) setTimeout(() => target.blur());
    return;
  }
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || !(event.key in VOTES)) return;
  const button = buttonOf(VOTES[event.key]);
  if (!button || button.disabled || !button.offsetParent) return;
  event.preventDefault();
  button.click();
});
