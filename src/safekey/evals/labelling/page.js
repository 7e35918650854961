"use strict";
(() => {
  const TOO_SOON = 400; // milliseconds: nobody reads an answer so fast; a second tap was meant for the answer before
  const shown = performance.now();
  let busy = false;
  const ready = () => !busy && performance.now() - shown > TOO_SOON;
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const key = event.key.toLowerCase();
    if (!["1", "0", "s", "u", "enter"].includes(key) || (key === "enter" && event.target !== document.body)) return;
    const found = document.querySelector(`[data-key="${key}"]`);
    if (!found) return;
    event.preventDefault();
    if (ready()) found.click();
  });
  for (const form of document.forms) {
    form.addEventListener("submit", (event) => {
      if (!ready()) event.preventDefault();
      else busy = true;
    });
  }
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
})();
