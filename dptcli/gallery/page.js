
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const entries = data.entries;
  const luts = Object.fromEntries(Object.entries(data.colormaps).map(
    ([name, text]) => [name, Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]));
  const state = { colormap: Object.keys(luts)[0], low: 0, high: 1, invert: false, shown: entries.map((_, i) => i), open: -1 };

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;  // text alone: a name is never markup
    return made;
  }
  const address = (entry, ending) => `${data.files}/${entry.id}.${ending}`;
  const percent = (share) => `${(100 * share).toFixed(share < 0.001 ? 2 : 1)} %`;

  // --- colours ------------------------------------------------------------------------------

  // The table's place for a nearness from 0 to 1, by the range and the direction that are chosen.
  function placed(nearness) {
    const span = Math.max(state.high - state.low, 1e-6);
    const t = Math.min(1, Math.max(0, (nearness - state.low) / span));
    return Math.round(255 * (state.invert ? 1 - t : t));
  }

  // Thumbnails are grey files: one SVG filter colours them all, and no pixel need be read.
  function applyColours() {
    const lut = luts[state.colormap];
    ["R", "G", "B"].forEach((channel, c) => {
      const values = Array.from({ length: 256 }, (_, i) => (lut[3 * placed(i / 255) + c] / 255).toFixed(4));
      document.querySelector(`#colours feFunc${channel}`).setAttribute("tableValues", values.join(" "));
    });
    paintRamp($("ramp"), placed);
    $("reset").hidden = state.low === 0 && state.high === 1 && !state.invert;
    if (state.open >= 0) { paintMap(); showLegend(); }
  }

  function paintRamp(canvas, place) {
    canvas.width = 256; canvas.height = 1;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(256, 1);
    const lut = luts[state.colormap];
    for (let i = 0; i < 256; i++) {
      const at = 3 * place(i / 255);
      pixels.data.set([lut[at], lut[at + 1], lut[at + 2], 255], 4 * i);
    }
    context.putImageData(pixels, 0, 0);
  }

  // --- the grid -----------------------------------------------------------------------------

  function makeTile(entry, index) {
    const item = element("li");
    item.style.setProperty("--ratio", ratio(entry));
    const tile = element("button", "tile");
    tile.type = "button";
    tile.dataset.index = index;
    const pair = element("span", entry.photo ? "pair" : "pair alone");
    if (entry.photo) pair.append(picture(address(entry, "thumb.jpg"), "photo", ""));
    const ending = entry.kind === "labels" ? "result.png" : "result.jpg";
    pair.append(picture(address(entry, ending), `result ${entry.kind}`, ""));
    tile.append(pair, element("span", "name", entry.name));
    tile.setAttribute("aria-label", entry.name);
    item.append(tile);
    return item;
  }
  function picture(source, className, alt) {
    const image = element("img", className);
    image.loading = "lazy"; image.decoding = "async"; image.alt = alt; image.src = source;
    return image;
  }
  const hasDepth = entries.some((entry) => entry.kind === "depth");
  const ratio = (entry) => (entry.size[0] / entry.size[1]).toFixed(4);

  const tiles = entries.map(makeTile);
  $("grid").append(...tiles);
  const searchable = entries.map((e) => `${e.name}\n${e.source || ""}`.toLowerCase());

  function search() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    state.shown = [];
    tiles.forEach((tile, i) => {
      tile.hidden = !words.every((word) => searchable[i].includes(word));
      if (!tile.hidden) state.shown.push(i);
    });
    $("empty").hidden = state.shown.length > 0 || entries.length === 0;
    $("empty").textContent = `No image is called “${$("search").value}”.`;
    const plural = entries.length === 1 ? "image" : "images";
    const count = words.length ? `${state.shown.length} of ${entries.length} ${plural}` : `${entries.length} ${plural}`;
    $("count").textContent = count;
    if (data.failures.length) {
      const link = element("a", "", `${data.failures.length} failed`);
      link.href = "#failures";
      $("count").append(", ", link);
    }
  }

  $("grid").addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (tile) open(Number(tile.dataset.index));
  });
  $("grid").addEventListener("pointermove", (event) => {
    const pair = event.target.closest(".pair");
    if (!pair || event.pointerType !== "mouse" || document.body.dataset.mode !== "split") return;
    const box = pair.getBoundingClientRect();
    pair.classList.add("held");
    pair.style.setProperty("--cut", `${(100 * (event.clientX - box.left) / box.width).toFixed(1)}%`);
  });
  $("grid").addEventListener("pointerout", (event) => {
    const pair = event.target.closest(".pair");
    if (!pair || pair.contains(event.relatedTarget)) return;
    pair.classList.remove("held");
    pair.style.removeProperty("--cut");
  });
  // Arrows walk over the tiles; up and down go to the tile above or below.
  $("grid").addEventListener("keydown", (event) => {
    const here = event.target.closest("li");
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!here || !step) return;
    event.preventDefault();
    const upright = event.key === "ArrowDown" || event.key === "ArrowUp";
    const box = here.getBoundingClientRect();
    const middle = (box.left + box.right) / 2;
    let row = null, best = null, nearest = Infinity;
    for (let at = state.shown.indexOf(Number(here.firstChild.dataset.index)) + step; at >= 0 && at < state.shown.length; at += step) {
      const tile = tiles[state.shown[at]], place = tile.getBoundingClientRect();
      if (!upright) { best = tile; break; }
      if (Math.abs(place.top - box.top) < 2) continue;
      if (row === null) row = place.top;
      if (Math.abs(place.top - row) > 2) break;
      const distance = Math.abs((place.left + place.right) / 2 - middle);
      if (distance < nearest) { nearest = distance; best = tile; }
    }
    if (best) best.firstChild.focus();
  });

  // --- the viewer ---------------------------------------------------------------------------

  const viewer = $("viewer"), stage = $("stage"), canvas = $("map");
  const waiting = new Map();   // id -> what to do with its values
  const loaded = new Map();    // id -> values; the last few only
  let isolated = null, hovered = null, cut = 50;

  window.dptReceive = (id, text) => {
    const image = new Image();
    image.onload = () => {
      const sheet = element("canvas");
      sheet.width = image.naturalWidth; sheet.height = image.naturalHeight;
      const context = sheet.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      const bytes = context.getImageData(0, 0, sheet.width, sheet.height).data;
      const entry = entries.find((one) => one.id === id);
      loaded.set(id, unpack(entry, bytes));
      if (loaded.size > 8) loaded.delete(loaded.keys().next().value);
      const then = waiting.get(id);
      waiting.delete(id);
      if (then) then();
    };
    image.src = `data:image/png;base64,${text}`;
  };
  function unpack(entry, bytes) {
    const values = new Uint16Array(bytes.length / 4);
    const isFine = entry.kind === "depth" && entry.top > 255;
    const isWide = entry.kind === "labels" && entry.shares.some(([value]) => value > 255);
    for (let i = 0; i < values.length; i++) {
      const at = 4 * i;
      values[i] = isFine ? bytes[at] * 16 + bytes[at + 1] : isWide ? bytes[at] + 256 * bytes[at + 1] : bytes[at];
    }
    return values;
  }
  function load(entry, then) {
    if (loaded.has(entry.id)) { then(); return; }
    const begun = waiting.has(entry.id);
    waiting.set(entry.id, then);
    if (begun) return;
    const script = element("script");
    script.src = address(entry, "js");
    script.onload = script.onerror = () => script.remove();
    document.head.append(script);
  }

  function open(index) {
    const entry = entries[index];
    const before = entries[state.open];
    state.open = index;
    isolated = hovered = null;
    if (!viewer.open) { viewer.showModal(); setCut(entry.photo ? 50 : 0); }
    if (before && !before.photo && entry.photo) setCut(50);
    if (!entry.photo) setCut(0);
    $("wipe").hidden = !entry.photo;
    $("view-photo").hidden = !entry.photo;
    if (entry.photo) $("view-photo").src = address(entry, "photo.jpg");
    $("view-photo").alt = entry.source || entry.name;
    viewer.style.setProperty("--ratio", ratio(entry));
    $("view-name").textContent = entry.name;
    $("view-name").title = entry.name;
    const at = state.shown.indexOf(index);
    $("view-place").textContent = `${at + 1} of ${state.shown.length}`;
    $("previous").disabled = at <= 0;
    $("next").disabled = at < 0 || at + 1 >= state.shown.length;
    const isPicture = entry.kind === "picture";
    $("view-picture").hidden = !isPicture;
    canvas.hidden = isPicture;
    document.querySelector(".opacity").hidden = !entry.photo;
    if (isPicture) $("view-picture").src = address(entry, "view.jpg");
    else {
      canvas.width = entry.map[0]; canvas.height = entry.map[1];
      canvas.removeAttribute("data-ready");
      load(entry, () => { if (state.open === index) paintMap(); });
    }
    // The colours' controls stand where they can be reached: a modal view covers the page's head.
    $("legend").after($("depth-tools"));
    $("depth-tools").hidden = entry.kind !== "depth";
    showReadout(null);
    showLegend();
    showFacts(entry);
    history.replaceState(null, "", `#${entry.id}`);
  }
  function close() {
    const index = state.open;
    state.open = -1;
    document.querySelector(".top").append($("depth-tools"));
    $("depth-tools").hidden = !hasDepth;
    history.replaceState(null, "", location.pathname + location.search);
    if (index >= 0) { tiles[index].scrollIntoView({ block: "nearest" }); tiles[index].firstChild.focus(); }
  }
  function browse(step) {
    const at = state.shown.indexOf(state.open) + step;
    if (at >= 0 && at < state.shown.length) open(state.shown[at]);
  }

  function paintMap() {
    const entry = entries[state.open], values = entry && loaded.get(entry.id);
    if (!values) return;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(entry.map[0], entry.map[1]);
    const colours = new Uint32Array(pixels.data.buffer);
    const table = entry.kind === "depth" ? depthTable(entry) : classTable(entry);
    for (let i = 0; i < values.length; i++) colours[i] = table[values[i]];
    context.putImageData(pixels, 0, 0);
    canvas.dataset.ready = entry.id;
  }
  const word = new Uint8ClampedArray(4), asNumber = new Uint32Array(word.buffer);
  function rgba(r, g, b, a) { word.set([r, g, b, a]); return asNumber[0]; }
  function depthTable(entry) {
    const lut = luts[state.colormap];
    return Uint32Array.from({ length: entry.top + 1 }, (_, level) => {
      const at = 3 * placed(level / entry.top);
      return rgba(lut[at], lut[at + 1], lut[at + 2], 255);
    });
  }
  function classTable(entry) {
    const table = new Uint32Array(65536);
    const only = hovered ?? isolated;
    for (const [value, colour] of Object.entries(data.sets[entry.set].colors)) {
      const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
      table[value] = rgba(r, g, b, only === null || only === Number(value) ? 255 : 30);
    }
    return table;
  }

  // --- legend, facts, what lies under the pointer ----------------------------------------------

  const className = (entry, value) => data.sets[entry.set].names[value] ?? (value === 0 || value >= 255 ? "left out" : `class ${value}`);
  function number(value) {
    if (value === null) return "–";
    const size = Math.abs(value);
    return size !== 0 && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  }
  function depthAt(entry, level) {
    const [far, near] = entry.range;
    return far === null || near === null ? null : far + (near - far) * level / entry.top;
  }
  const unit = (entry, value) => entry.metres ? `${number(value)} m` : number(value);

  function showLegend() {
    const entry = entries[state.open], legend = $("legend");
    if (entry.kind === "labels") {
      const list = element("ul");
      for (const [value, share] of entry.shares) {
        const button = element("button");
        button.type = "button";
        button.dataset.value = value;
        button.setAttribute("aria-pressed", String(isolated === value));
        const swatch = element("i");
        swatch.style.background = data.sets[entry.set].colors[value] || "transparent";
        button.append(swatch, element("b", "", className(entry, value)), element("span", "", percent(share)));
        const item = element("li");
        item.append(button);
        list.append(item);
      }
      legend.replaceChildren(list);
    } else if (entry.kind === "depth") {
      const bar = element("canvas"), ends = element("div", "ends");
      ends.append(element("span", "", `far ${unit(entry, entry.range[0])}`), element("span", "", `near ${unit(entry, entry.range[1])}`));
      legend.replaceChildren(bar, ends);
      paintRamp(bar, placed);
    } else legend.replaceChildren();
  }
  $("legend").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const value = Number(button.dataset.value);
    isolated = isolated === value ? null : value;
    for (const one of $("legend").querySelectorAll("button")) one.setAttribute("aria-pressed", String(Number(one.dataset.value) === isolated));
    paintMap();
  });
  $("legend").addEventListener("pointerover", (event) => point(event.target.closest("button")));
  $("legend").addEventListener("pointerleave", () => point(null));
  function point(button) {
    const value = button ? Number(button.dataset.value) : null;
    if (value !== hovered) { hovered = value; paintMap(); }
  }

  function showFacts(entry) {
    const facts = [["Photo", entry.source], ["Size", `${entry.full[0]} × ${entry.full[1]}`], ["Model", entry.model]];
    if (entry.kind === "depth") facts.push(["Shows", entry.shows]);
    $("facts").replaceChildren(...facts.filter(([, text]) => text).flatMap(([term, text]) => [element("dt", "", term), element("dd", "", text)]));
    $("open-file").href = entry.file;
  }

  function showReadout(place) {
    const entry = entries[state.open];
    if (!entry) return;  // the pointer leaves the stage after the view has closed
    const values = loaded.get(entry.id);
    const chip = $("chip"), readout = $("readout");
    for (const one of $("legend").querySelectorAll(".here")) one.classList.remove("here");
    if (!place || !values || entry.kind === "picture") {
      chip.hidden = true;
      readout.replaceChildren(element("small", "", entry.kind === "picture" ? "" : "Point at the image to read it."));
      return;
    }
    const [width, height] = entry.map;
    const x = Math.min(width - 1, Math.max(0, Math.floor(place.x * width)));
    const y = Math.min(height - 1, Math.max(0, Math.floor(place.y * height)));
    const value = values[y * width + x];
    const at = `x ${Math.floor(place.x * entry.full[0])}, y ${Math.floor(place.y * entry.full[1])}`;
    let main, more;
    if (entry.kind === "depth") {
      const depth = depthAt(entry, value);
      main = unit(entry, depth);
      more = `${percent(value / entry.top)} from far to near, ${at}`;
      readout.dataset.value = depth;
    } else {
      main = className(entry, value);
      more = `class ${value}, ${at}`;
      readout.dataset.value = value;
      const row = $("legend").querySelector(`[data-value="${value}"]`);
      if (row) row.classList.add("here");
    }
    readout.replaceChildren(main, element("small", "", more));
    chip.textContent = main;
    chip.hidden = false;
    const box = stage.getBoundingClientRect();
    const left = place.x * box.width + 16, top = place.y * box.height + 16;
    chip.style.transform = `translate(${Math.min(left, box.width - chip.offsetWidth - 4)}px, ${Math.min(top, box.height - chip.offsetHeight - 4)}px)`;
  }

  function setCut(value) {
    cut = Math.min(100, Math.max(0, value));
    stage.style.setProperty("--cut", `${cut}%`);
    $("wipe").setAttribute("aria-valuenow", Math.round(cut));
  }
  const placeOf = (event) => {
    const box = stage.getBoundingClientRect();
    return { x: Math.min(1 - 1e-9, Math.max(0, (event.clientX - box.left) / box.width)), y: Math.min(1 - 1e-9, Math.max(0, (event.clientY - box.top) / box.height)) };
  };
  let dragging = false;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    dragging = entries[state.open].photo && (event.target === $("wipe") || event.pointerType !== "mouse");
    if (event.target === $("wipe") || event.pointerType !== "mouse") event.preventDefault();
    if (dragging) stage.setPointerCapture(event.pointerId);
    showReadout(placeOf(event));
  });
  stage.addEventListener("pointermove", (event) => {
    const place = placeOf(event);
    if (dragging) setCut(100 * place.x);
    showReadout(place);
  });
  const drop = () => { dragging = false; };
  stage.addEventListener("pointerup", drop);
  stage.addEventListener("pointercancel", drop);
  stage.addEventListener("pointerleave", () => { if (!dragging) showReadout(null); });
  $("wipe").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -2, ArrowRight: 2, PageDown: -10, PageUp: 10 }[event.key];
    if (step) setCut(cut + step);
    else if (event.key === "Home") setCut(0);
    else if (event.key === "End") setCut(100);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  $("opacity").addEventListener("input", () => $("over").style.setProperty("--opacity", $("opacity").value / 100));
  $("back").addEventListener("click", () => viewer.close());
  $("previous").addEventListener("click", () => browse(-1));
  $("next").addEventListener("click", () => browse(1));
  viewer.addEventListener("close", close);

  // --- controls -----------------------------------------------------------------------------

  for (const name of Object.keys(luts)) $("colormap").append(new Option(name, name));
  $("colormap").addEventListener("change", () => { state.colormap = $("colormap").value; applyColours(); });
  function readRange(event) {
    const low = Number($("low").value), high = Number($("high").value);
    if (high - low < 1) event.target.value = event.target.id === "low" ? high - 1 : low + 1;
    state.low = Number($("low").value) / 100;
    state.high = Number($("high").value) / 100;
    applyColours();
  }
  $("low").addEventListener("input", readRange);
  $("high").addEventListener("input", readRange);
  $("invert").addEventListener("change", () => { state.invert = $("invert").checked; applyColours(); });
  $("reset").addEventListener("click", () => {
    $("low").value = 0; $("high").value = 100; $("invert").checked = false;
    Object.assign(state, { low: 0, high: 1, invert: false });
    applyColours();
  });
  $("modes").addEventListener("click", (event) => {
    const mode = event.target.dataset.mode;
    if (!mode) return;
    document.body.dataset.mode = mode;
    for (const button of $("modes").children) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  });
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
  });
  $("search").addEventListener("input", search);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input, select");
    if (event.key === "/" && !typing && !viewer.open) { event.preventDefault(); $("search").focus(); }
    if (event.key === "Escape" && event.target === $("search")) { $("search").value = ""; search(); $("search").blur(); }
    if (typing) return;
    if (event.key === "c") {
      $("colormap").selectedIndex = ($("colormap").selectedIndex + 1) % $("colormap").length;
      state.colormap = $("colormap").value;
      applyColours();
    }
    if (event.key === "i") { $("invert").checked = !$("invert").checked; state.invert = $("invert").checked; applyColours(); }
    if (viewer.open && event.key === "ArrowLeft") browse(-1);
    if (viewer.open && event.key === "ArrowRight") browse(1);
  });

  // --- begin --------------------------------------------------------------------------------

  document.body.dataset.mode = "split";
  $("title").textContent = data.title;
  $("version").textContent = data.version;
  $("depth-tools").hidden = !hasDepth;
  if (data.failures.length) {
    $("failures").hidden = false;
    $("failed-title").textContent = data.failures.length === 1 ? "1 image failed" : `${data.failures.length} images failed`;
    $("failures").lastElementChild.append(...data.failures.map(([name, reason]) => {
      const item = element("li");
      item.append(element("b", "", name), element("span", "", reason));
      return item;
    }));
  }
  search();
  applyColours();
  const asked = entries.findIndex((entry) => `#${entry.id}` === location.hash);
  if (asked >= 0) open(asked);
})();
