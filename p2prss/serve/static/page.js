// What the page does beyond reading: a player that stays, copying, and progress that moves.
// Everything works without this script; it makes no element from text it is given.

const audio = document.getElementById("audio");
const player = document.getElementById("player");
const note = document.getElementById("player-note");
const say = (text) => { document.getElementById("announce").textContent = text; };
const root = () => new URL(document.body.dataset.root, location.href);

// ---- the player

const SPEEDS = [1, 1.25, 1.5, 1.75, 2, 0.75];
const RETRY_MS = 5000;
const REMEMBERED = 200; // places in episodes that are kept
let playing = null; // what is in the player: { url, title, show, image }
let retry = 0;
const others = new BroadcastChannel(`player ${root().pathname}`); // the same page in other tabs

const places = () => { try { return JSON.parse(localStorage.getItem("places") || "{}"); } catch { return {}; } };

function remember() {
  if (!playing || !Number.isFinite(audio.duration)) return;
  const all = places();
  delete all[playing.url];
  if (audio.currentTime > 5 && audio.currentTime < audio.duration - 15) all[playing.url] = Math.floor(audio.currentTime);
  try { localStorage.setItem("places", JSON.stringify(Object.fromEntries(Object.entries(all).slice(-REMEMBERED)))); } catch { /* not kept then */ }
}

function load(link) {
  remember();
  const image = link.dataset.image ? new URL(link.dataset.image, location.href).href : null;
  fill({ url: new URL(link.href).pathname, title: link.dataset.title, show: link.dataset.show, image });
  open(places()[playing.url] || 0, true);
}

function fill(what) {
  playing = what;
  keep();
  document.getElementById("player-title").textContent = playing.title;
  player.hidden = false;
  if ("mediaSession" in navigator) {
    const artwork = playing.image ? [{ src: playing.image }] : [];
    navigator.mediaSession.metadata = new MediaMetadata({ title: playing.title, artist: playing.show, artwork });
  }
}

// What plays in this tab is kept for the next page that is loaded in it.
function keep() {
  try {
    if (playing) sessionStorage.setItem("playing", JSON.stringify({ ...playing, on: !audio.paused, root: root().pathname }));
    else sessionStorage.removeItem("playing");
  } catch { /* not kept then */ }
}

async function resume() {
  let kept = null;
  try { kept = JSON.parse(sessionStorage.getItem("playing")); } catch { /* nothing was kept */ }
  if (!kept || kept.root !== root().pathname || !(await isThere(kept.url)) || playing) return keep();
  fill(kept);
  open(places()[playing.url] || 0, kept.on);
}

async function isThere(url) {
  try { return (await fetch(url, { method: "HEAD", cache: "no-store" })).status !== 404; } catch { return true; }
}

function open(at, on) {
  clearTimeout(retry);
  note.textContent = on ? "Loading…" : playing.show;
  const speed = audio.playbackRate;
  audio.src = playing.url;
  if (at) audio.addEventListener("loadedmetadata", () => { audio.currentTime = at; }, { once: true });
  audio.playbackRate = speed;
  if (on) audio.play().catch(() => { if (audio.paused && !audio.error) note.textContent = playing?.show ?? ""; });
}

function mark() {
  for (const link of document.querySelectorAll("[data-play]")) {
    const mine = playing && new URL(link.href).pathname === playing.url;
    link.setAttribute("aria-pressed", String(Boolean(mine && !audio.paused)));
    link.classList.toggle("current", Boolean(mine));
  }
  toggle.setAttribute("aria-pressed", String(!audio.paused));
  toggle.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
}

const seek = document.getElementById("seek");
const toggle = document.getElementById("toggle");

function clock(seconds) {
  if (!Number.isFinite(seconds)) return "–:––";
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 60) % 60, whole % 60];
  if (whole >= 3600) parts.unshift(Math.floor(whole / 3600));
  return parts.map((part, place) => (place ? String(part).padStart(2, "0") : part)).join(":");
}

function tick() {
  const now = seek.matches(":active") ? Number(seek.value) : audio.currentTime;
  document.getElementById("player-now").textContent = clock(now);
  document.getElementById("player-all").textContent = clock(audio.duration);
  seek.max = Number.isFinite(audio.duration) ? audio.duration : 1;
  if (!seek.matches(":active")) seek.value = audio.currentTime;
  seek.setAttribute("aria-valuetext", `${clock(now)} of ${clock(audio.duration)}`);
}

for (const name of ["timeupdate", "durationchange", "seeked", "emptied"]) audio.addEventListener(name, tick);
seek.addEventListener("input", tick);
seek.addEventListener("change", () => { audio.currentTime = Number(seek.value); });
toggle.addEventListener("click", () => { if (audio.paused) audio.play().catch(() => {}); else audio.pause(); });

for (const name of ["play", "pause", "ended", "emptied"]) audio.addEventListener(name, mark);
for (const name of ["pause", "seeked"]) audio.addEventListener(name, remember);
for (const name of ["play", "pause"]) audio.addEventListener(name, keep);
audio.addEventListener("play", () => others.postMessage("plays"));
others.addEventListener("message", () => audio.pause());
audio.addEventListener("playing", () => { note.textContent = playing.show; });
audio.addEventListener("waiting", () => { note.textContent = "Fetching…"; });
audio.addEventListener("ended", () => { note.textContent = "The end"; });
audio.addEventListener("error", async () => {
  if (!playing || !audio.error) return;
  if (audio.error.code === MediaError.MEDIA_ERR_ABORTED) return;
  const at = audio.currentTime || places()[playing.url] || 0;
  const { url } = playing;
  if (!(await isThere(url))) {
    if (playing?.url === url) note.textContent = "This episode is no longer here.";
    return;
  }
  if (playing?.url !== url) return;
  note.textContent = "Nobody who has this episode answers. Trying again…";
  clearTimeout(retry);
  retry = setTimeout(() => open(at, true), RETRY_MS);
});
setInterval(() => { if (!audio.paused) remember(); }, 10000);
addEventListener("pagehide", () => { remember(); keep(); });

function closePlayer() {
  remember();
  clearTimeout(retry);
  playing = null;
  audio.pause();
  audio.removeAttribute("src");
  audio.load();
  player.hidden = true;
  keep();
  mark();
}
document.getElementById("player-close").addEventListener("click", () => {
  closePlayer();
  document.getElementById("main").focus({ preventScroll: true });
});
document.getElementById("speed").addEventListener("click", (event) => {
  const next = SPEEDS[(SPEEDS.indexOf(audio.playbackRate) + 1) % SPEEDS.length];
  audio.playbackRate = audio.defaultPlaybackRate = next;
  event.currentTarget.textContent = `${next}×`;
  event.currentTarget.setAttribute("aria-label", `Speed: ${next} times`);
});
for (const button of document.querySelectorAll("[data-skip]")) {
  button.addEventListener("click", () => { audio.currentTime = Math.max(0, audio.currentTime + Number(button.dataset.skip)); });
}

// ---- clicks: play, copy, and going on without stopping the player

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) return copy(button);
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if ("play" in link.dataset) {
    event.preventDefault();
    if (playing && new URL(link.href).pathname === playing.url && audio.src) {
      if (audio.paused) audio.play().catch(() => {}); else audio.pause();
    } else load(link);
    return;
  }
  const url = new URL(link.href);
  if (player.hidden || link.hasAttribute("download") || url.origin !== location.origin || !isPage(url)) return;
  if (url.hash && url.pathname === location.pathname && url.search === location.search) return;
  event.preventDefault();
  await visit(url, true);
});

const isPage = (url) => {
  const path = url.pathname.slice(root().pathname.length);
  return path === "" || path === "add" || path.startsWith("shows/");
};

async function copy(button) {
  const field = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    field.select();
    document.execCommand("copy");
  }
  const before = button.textContent;
  button.textContent = "Copied";
  say("Copied");
  setTimeout(() => { button.textContent = before; }, 2000);
}

async function fetchPage(url) {
  const answer = await fetch(url, { headers: { accept: "text/html" } });
  if (!(answer.headers.get("content-type") || "").startsWith("text/html")) throw new Error("no page");
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

let visits = 0;
let shown = location.pathname + location.search;

async function visit(url, push, scroll = 0) {
  const mine = ++visits;
  let page;
  try {
    page = await fetchPage(url);
  } catch (error) {
    if (error instanceof TypeError) return lost(); // nobody answers: what is here stays, and plays on
    location.href = url;
    return;
  }
  if (mine !== visits) return; // another one was chosen meanwhile
  if (push) {
    history.replaceState({ scroll: scrollY }, "");
    history.pushState({}, "", url);
  }
  shown = location.pathname + location.search;
  document.title = page.title;
  document.body.dataset.root = page.body.dataset.root;
  for (const name of [".top", "main", ".foot"]) document.querySelector(name).replaceWith(page.querySelector(name));
  dress();
  document.getElementById("main").focus({ preventScroll: true });
  scrollTo(0, scroll);
  if (push) document.getElementById(new URL(url, location.href).hash.slice(1))?.scrollIntoView();
}
addEventListener("popstate", (event) => {
  if (location.pathname + location.search !== shown) visit(location.href, false, event.state?.scroll ?? 0);
});

// A picture that cannot be shown leaves its place empty.
const NOTHING = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==";
const blank = (image) => { if (image.src !== NOTHING) image.src = NOTHING; };

// What only the script can do becomes visible.
function dress() {
  for (const image of document.querySelectorAll("img.cover")) {
    if (image.complete && !image.naturalWidth && image.loading !== "lazy") blank(image);
  }
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
  for (const link of document.querySelectorAll("[data-play]")) link.setAttribute("role", "button");
  mark();
}
document.addEventListener("keydown", (event) => {
  if (event.key === " " && event.target.matches("a[role=button]")) { event.preventDefault(); event.target.click(); }
});
document.addEventListener("submit", (event) => {
  const button = event.target.querySelector("button[type=submit]");
  if (event.target.dataset.busy) {
    say(event.target.dataset.busy);
    button.textContent = event.target.dataset.busy;
  }
  setTimeout(() => { button.disabled = true; });
});
document.addEventListener("error", (event) => {
  if (event.target.matches?.("img.cover")) blank(event.target);
}, true);
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

// ---- live

const seen = new Map(); // key -> what was told last
let fresh = 0; // a timer

function refreshSoon(milliseconds = 800) {
  if (!fresh) fresh = setTimeout(refresh, milliseconds);
}

async function refresh() {
  fresh = 0;
  const at = location.href;
  if (document.hidden || isFilledIn()) return;
  let page;
  try { page = await fetchPage(at); } catch { return; }
  if (location.href !== at) return;
  if (!page.getElementById("main")) return;
  const main = document.getElementById("main");
  const active = main.contains(document.activeElement) && document.activeElement !== main ? finder(main, document.activeElement) : null;
  const open = [...main.querySelectorAll("details")].map((one) => one.open);
  const typed = getSelection().isCollapsed;
  if (!typed) return refreshSoon(3000); // somebody is marking text
  main.replaceChildren(...page.getElementById("main").childNodes);
  main.querySelectorAll("details").forEach((one, place) => { one.open = Boolean(open[place]); });
  document.title = page.title;
  dress();
  if (active) active()?.focus({ preventScroll: true });
}

// A form is left alone, but for an empty one on the first page.
const isFilledIn = () => [...document.querySelectorAll("form[method=post]")].some((form) =>
  !form.matches(".quick") || form.contains(document.activeElement) || [...form.elements].some((one) => one.value !== one.defaultValue && one.type === "text"));

function pathOf(element) {
  if (element.id) return `#${CSS.escape(element.id)}`;
  if (element.getAttribute("href")) return `${element.localName}[href="${CSS.escape(element.getAttribute("href"))}"]`;
  return null;
}

// How to find what stands in an element's place once the rest of the page has been replaced.
function finder(main, element) {
  const path = pathOf(element);
  const place = [...main.querySelectorAll(path ?? element.localName)].indexOf(element);
  return () => main.querySelectorAll(path ?? element.localName)[place];
}

function show(state) {
  const before = seen.get(state.key);
  seen.set(state.key, state);
  const places = document.querySelectorAll(`[data-show-key="${CSS.escape(state.key)}"]`);
  for (const place of places) {
    for (const [name, text] of [["peers", state.peers_text], ["stored", state.stored_text]]) {
      const element = place.querySelector(`[data-${name}]`);
      if (element) element.textContent = text;
    }
    const work = place.querySelector("[data-work]");
    if (work) {
      const bar = work.querySelector("progress");
      work.hidden = state.done === null;
      if (state.total) { bar.max = state.total; bar.value = state.done; } else bar.removeAttribute("value");
      work.querySelector("[data-work-text]").textContent = state.text;
    }
    const problem = place.querySelector("[data-problem]");
    if (problem) { problem.hidden = !state.problem; problem.textContent = state.problem || ""; }
  }
  if (!before) {
    if (!places.length && location.pathname === root().pathname) refreshSoon();
    return;
  }
  if (before.done !== null && state.done === null && !state.problem) say(`${state.title}: what is wanted is here`);
  if (before.version !== state.version || before.title !== state.title || (before.done !== null && state.done === null)) refreshSoon();
  else if (before.stored_bytes !== state.stored_bytes) refreshSoon(4000);
}

// The program may be stopped, or start again, while its page is open.
const offline = document.getElementById("offline");
const GONE_MS = 2500; // without a connection until that is told
const AGAIN_MS = 10000; // until a refused one is tried again
let gone = 0;

function lost() {
  offline.hidden = false;
}

function found() {
  clearTimeout(gone);
  gone = 0;
  if (offline.hidden) return;
  offline.hidden = true;
  refreshSoon();
}

function listen() {
  const source = new EventSource(new URL("events", root()));
  source.addEventListener("open", found);
  source.addEventListener("error", () => {
    if (!gone) gone = setTimeout(lost, GONE_MS);
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    clearTimeout(gone); // it was answered: only too many pages are open
    gone = 0;
    setTimeout(listen, AGAIN_MS);
  });
  source.addEventListener("show", (event) => show(JSON.parse(event.data)));
  source.addEventListener("removed", (event) => {
    const { key } = JSON.parse(event.data);
    seen.delete(key);
    if (playing?.url.includes(`/feeds/${key}/`)) closePlayer();
    refreshSoon();
  });
  addEventListener("pagehide", () => source.close());
}

for (const icon of document.querySelectorAll("link[rel=icon]")) icon.href = icon.href; // absolute: pages come and go below it
dress();
resume();
listen();
