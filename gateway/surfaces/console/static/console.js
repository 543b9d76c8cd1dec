// Keys, times in the reader's zone, and what is ticked. Everything here is a convenience: without it every
// page works, and no key decides anything by itself.
(() => {
  "use strict";

  const $ = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // ---------------------------------------------------------------- times

  const span = (s) =>
    s >= 172800 ? `${Math.floor(s / 86400)} d` :
    s >= 7200 ? `${Math.floor(s / 3600)} h` :
    s >= 60 ? `${Math.floor(s / 60)} min` : `${Math.max(0, Math.floor(s))} s`;

  const zone = new Intl.DateTimeFormat(undefined, {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    hourCycle: "h23", timeZoneName: "short",
  });

  function times() {
    const now = Date.now();
    const say = (element, text) => { if (element.textContent !== text) element.textContent = text; };
    for (const each of all("time[data-at]")) say(each, zone.format(new Date(each.dateTime)));
    for (const each of all("time[data-since]")) {
      const passed = (now - new Date(each.dateTime)) / 1000;
      say(each, passed >= 0 ? `${span(passed)} ago` : "soon");
      each.title = zone.format(new Date(each.dateTime));
    }
    for (const each of all("time[data-until]")) {
      const left = (new Date(each.dateTime) - now) / 1000;
      say(each, left > 0 ? `${span(left)} left` : "time is over");
      each.classList.toggle("soon", left < 120);
      each.title = zone.format(new Date(each.dateTime));
    }
  }

  // ---------------------------------------------------------------- rows

  const rows = () => all("[data-row]");
  const current = () => document.activeElement && document.activeElement.closest("[data-row]");

  function step(by) {
    const list = rows();
    if (!list.length) return;
    const at = list.indexOf(current());
    const next = list[Math.min(list.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
    const link = $("a", next);
    link.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }

  function ticked() {
    const bar = $("[data-bulk]");
    if (!bar) return;
    const boxes = all("[data-tick]:checked");
    bar.dataset.bulk = boxes.length ? "some" : "none";
    const count = $("[data-count]", bar);
    if (count) count.textContent = boxes.length ? `${boxes.length} ticked` : "Tick calls to decide several at once";
    const approve = $("[data-alike]", bar);
    if (approve) {
      const alike = new Set(boxes.map((box) => box.dataset.tool)).size === 1;
      const low = boxes.every((box) => box.dataset.risk === "read" || box.dataset.risk === "reversible");
      approve.disabled = !(boxes.length && alike && low);
    }
  }

  // ---------------------------------------------------------------- keys

  const typing = (element) =>
    element && (element.isContentEditable || /^(TEXTAREA|SELECT)$/.test(element.tagName) ||
      (element.tagName === "INPUT" && !/^(checkbox|radio|submit|button)$/.test(element.type)));

  // A key moves to a place and never presses what is there: nothing is decided by a slip.
  function reach(name) {
    const found = $(`[data-key="${name}"]`);
    if (!found) return false;
    const folded = found.closest("details:not([open])");
    if (folded) folded.open = true;
    if (found.tagName === "DETAILS") found.open = true;
    const target = found.tagName === "DETAILS" ? $("textarea, input:not([type=hidden]), select, button", found) : found;
    target.focus();
    target.scrollIntoView({ block: "nearest" });
    return true;
  }

  const go = (name) => { const link = $(`a[data-go="${name}"]`); if (link) { link.click(); return true; } return false; };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "Escape") {
      const open = $("dialog[open]");
      if (!open && typing(document.activeElement)) document.activeElement.blur();
      return;
    }
    if (typing(event.target)) return;
    const done = {
      "/": () => { const field = $("[data-filter]"); if (field) { field.focus(); field.select(); return true; } },
      j: () => { step(1); return true; },
      k: () => { step(-1); return true; },
      x: () => {
        const box = current() && $("[data-tick]", current());
        if (box) { box.click(); return true; }
      },
      a: () => reach("approve"), r: () => reach("reject"), e: () => reach("edit"), q: () => reach("ask"),
      n: () => go("next"), g: () => go("queue"),
      "?": () => { const help = $("#keys"); if (help) { help.showModal(); return true; } },
    }[event.key];
    if (done && done()) event.preventDefault();
  });

  // ---------------------------------------------------------------- what comes in

  const live = $("#live");
  if (live) {
    live.addEventListener("approvals", (event) => {
      const waiting = Number(event.detail && event.detail.data) || 0;
      const badge = $("#waiting");
      if (badge) { badge.textContent = waiting.toLocaleString("en"); badge.hidden = !waiting; }
      const said = $("#said");
      if (said) said.textContent = waiting === 1 ? "1 call waits" : `${waiting} calls wait`;
      document.title = document.title.replace(/^\(\d[\d,]*\) /, "");
      if (waiting) document.title = `(${waiting.toLocaleString("en")}) ${document.title}`;
    });
    live.addEventListener("signed-out", async () => {
      // Another page may have kept its owner signed in; pages that nobody looks at must not keep each other so,
      // and loading this one again would.
      const answer = await fetch(location.href, { headers: { "HX-Request": "true" } });
      if (!answer.ok) location.reload();
    });
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-tick]")) ticked();
    if (event.target.matches("[data-tick-all]")) {
      for (const box of all("[data-tick]:not(:disabled)")) box.checked = event.target.checked;
      ticked();
    }
    if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
  });
  document.addEventListener("click", (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy && navigator.clipboard) {
      navigator.clipboard.writeText(copy.dataset.copy).then(() => {
        copy.dataset.copied = "";
        setTimeout(() => delete copy.dataset.copied, 1500);
      });
    }
    const opens = event.target.closest("[data-opens]");
    if (opens) { const dialog = $(`#${opens.dataset.opens}`); if (dialog) { dialog.showModal(); event.preventDefault(); } }
    const closes = event.target.closest("[data-closes]");
    if (closes) closes.closest("dialog").close();
  });
  document.addEventListener("submit", (event) => {
    // Twice the same click is one decision; the gateway would say so, and this says it sooner.
    const form = event.target;
    if (form.method === "post" && form.dataset.sent) { event.preventDefault(); return; }
    if (form.method === "post") { form.dataset.sent = "1"; setTimeout(() => delete form.dataset.sent, 5000); }
  });

  document.addEventListener("htmx:after:swap", () => { times(); ticked(); });
  for (const each of all("[data-scripted]")) each.hidden = false;
  setInterval(times, 1000);
  times();
  ticked();
  const here = $(".menu [aria-current]");
  if (here && here.closest(".menu").scrollWidth > innerWidth) here.scrollIntoView({ inline: "center", block: "nearest" });
  const heading = $("[data-arrive]");
  if (heading && !location.hash && document.activeElement === document.body) heading.focus({ preventScroll: true });
})();
