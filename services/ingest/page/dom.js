// Makes elements. Data becomes text nodes and attributes, never markup.

const PROPS = new Set(["value", "checked", "disabled", "htmlFor", "selected", "open", "hidden", "src", "controls"]);
const SVG = "http://www.w3.org/2000/svg";

/** An element: `on…` are listeners, strings among the children are text. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (PROPS.has(name)) element[name] = value;
    else if (value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replaces what is in an element. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const ICONS = {
  play: "M8 5v14l11-7z",
  pause: "M7 5h4v14H7zM13 5h4v14h-4z",
  up: "M12 4l6 6h-4v6h-4v-6H6zM5 18h14v2H5z",
  mic: "M12 3a3 3 0 0 0-3 3v6a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3zM5 11h2a5 5 0 0 0 10 0h2a7 7 0 0 1-6 6.900V21h-2v-3.100A7 7 0 0 1 5 11z",
  screen: "M3 5h18v11H3zM8 18h8v2H8z",
};

/** A small picture beside words; it says nothing to a screen reader. */
export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** Tells a screen reader what happened. */
export function say(text) {
  document.getElementById("say").textContent = text;
}

/** A button that puts a text on the clipboard and says so. */
export function copier(text, label, done) {
  const button = h("button", { type: "button", class: "quiet" }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
    } catch {
      const from = button.parentElement.querySelector("code, input");  // no clipboard here: leave it selected
      if (from) getSelection().selectAllChildren(from);
      return;
    }
    button.textContent = done;
    say(done);
    setTimeout(() => { button.textContent = label; }, 1800);
  });
  return button;
}

/** What a file chooser offers. */
export const RECORDINGS = "audio/*,video/*,.amr,.caf,.mkv,.opus";

/** Takes files that are dropped anywhere on the page; `over` lights up meanwhile. */
export function dropping(over, take, signal) {
  for (const kind of ["dragenter", "dragover"]) {
    addEventListener(kind, (event) => { event.preventDefault(); over.classList.add("over"); }, { signal });
  }
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) over.classList.remove("over"); }, { signal });
  addEventListener("drop", (event) => {
    event.preventDefault();
    over.classList.remove("over");
    take([...event.dataTransfer.files]);
  }, { signal });
}

/** Gives a file to the browser to keep. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
