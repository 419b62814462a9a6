// Keeps a page up to date. Without it everything can be read and done as well, by loading the page again.
"use strict";
(() => {
  const freshness = document.getElementById("freshness");
  if (!freshness || !window.EventSource) return;
  let wanted = false;
  let busy = false;
  // What is under a finger or a pressed button stays there, or the click would hit nothing.
  let pressed = false;

  // Nobody's form is taken away while they fill it in.
  const isInUse = () =>
    document.querySelector("#live details.deed[open]") !== null ||
    (document.activeElement && document.activeElement.matches("#live input, #live select"));

  const say = (text, good) => {
    freshness.textContent = text;
    freshness.className = good ? "fresh" : "stale";
  };

  const renew = async () => {
    if (busy || !wanted || pressed) return;
    if (isInUse()) {
      say("There is news: it is shown when the form is closed", false);
      return;
    }
    busy = true;
    wanted = false;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", headers: { accept: "text/html", "x-renews": "1" } });
      if (answer.redirected) {
        location.reload();
        return;
      }
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      const own = document.getElementById("live");
      const other = next.getElementById("live");
      if (other && !isInUse() && !pressed) {
        const open = [...own.querySelectorAll("details[open][id]")].map((one) => one.id);
        const focus = document.activeElement && own.contains(document.activeElement) ? document.activeElement.id : "";
        own.replaceChildren(...other.childNodes);
        open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
        if (focus) document.getElementById(focus)?.focus();
        document.title = next.title;
        const nav = next.querySelector("header.top nav");
        if (nav) document.querySelector("header.top nav").replaceChildren(...nav.childNodes);
        say("Up to date by itself", true);
      } else {
        wanted = true;
      }
    } catch {
      wanted = true;
      say("The monitor does not answer", false);
    }
    busy = false;
    if (wanted) setTimeout(renew, 1000);
  };

  const events = new EventSource(freshness.dataset.live);
  events.addEventListener("open", () => say("Up to date by itself", true));
  events.addEventListener("error", () => say("The monitor does not answer", false));
  events.addEventListener("changed", () => {
    wanted = true;
    renew();
  });
  document.addEventListener("toggle", (event) => {
    // Whoever opens a form wants to fill it in.
    if (event.target.open && event.target.matches("details.deed")) event.target.querySelector("input[name=reason]")?.focus();
    renew();
  }, true);
  document.addEventListener("keydown", (event) => {
    const open = event.key === "Escape" && document.querySelector("details.deed[open]");
    if (!open) return;
    open.removeAttribute("open");
    open.querySelector("summary").focus();
  });
  addEventListener("pointerdown", () => { pressed = true; }, true);
  for (const end of ["pointerup", "pointercancel"]) {
    addEventListener(end, () => {
      pressed = false;
      setTimeout(renew, 100);
    }, true);
  }
  document.addEventListener("focusout", () => setTimeout(renew, 100));
  addEventListener("pagehide", () => events.close());
})();
