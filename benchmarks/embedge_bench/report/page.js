"use strict";
// Shows what is under the pointer. `data-errors` counts what went wrong, for whoever opens the page by machine.
const root = document.documentElement;
root.dataset.errors = "0";
window.addEventListener("error", () => { root.dataset.errors = String(Number(root.dataset.errors) + 1); });

const tip = document.getElementById("tip");

function place(event) {
  const box = tip.getBoundingClientRect();
  const right = event.clientX + 14 + box.width < window.innerWidth;
  const below = event.clientY + 16 + box.height < window.innerHeight;
  const x = right ? event.clientX + 14 : event.clientX - 14 - box.width;
  const y = below ? event.clientY + 16 : event.clientY - 12 - box.height;
  tip.style.transform = `translate(${Math.max(4, x)}px, ${Math.max(4, y)}px)`;
}

document.addEventListener("pointermove", (event) => {
  const told = event.target.closest("[data-tip]");
  tip.style.visibility = told ? "visible" : "hidden";
  if (told) {
    tip.textContent = told.dataset.tip;
    place(event);
  }
});
root.dataset.ready = "true";
