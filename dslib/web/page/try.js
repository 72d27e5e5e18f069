// The page: controls, pictures, words. The networks run in worker.js.
"use strict";
(() => {
  const place = document.getElementById("try"), find = selector => place.querySelector(selector);
  const root = new URL(place.dataset.root || ".", location.href).href;
  const controls = find(".try-controls").elements, look = find(".try-look").elements, bar = find("progress");
  const fields = { seed: controls.seed, other: controls.other, blend: controls.blend, until: controls.until, sampler: controls.sampler,
    steps: controls.steps, step: look.step, show: look.show };
  const state = { models: [], sizes: {}, number: 0, links: {}, near: {}, worker: null, busy: false, wait: 0 };

  const say = text => { find(".try-status").textContent = text; };
  const alarm = text => {
    find(".try-alert").hidden = !text;
    find(".try-alert").textContent = text;
  };
  const chosen = () => state.models.filter(model => controls["model-" + model.id].checked);

  /** A range, number or choice takes a word of the address, if it is one of its own. */
  function accept(field, word) {
    if (field.tagName === "SELECT") {
      if (![...field.options].some(option => option.value === word)) return false;
    } else if (word === "" || !(Number(word) >= Number(field.min) && Number(word) <= Number(field.max))
               || (field.type === "number" && !Number.isInteger(Number(word)))) {
      return false;
    }
    field.value = word;
    return true;
  }

  function readAddress() {
    const ignored = [];
    for (const [name, word] of new URLSearchParams(location.search)) {
      if (name === "models") {
        const ids = word.split(","), known = state.models.map(model => model.id);
        ignored.push(...ids.filter(id => !known.includes(id)).map(id => `models=${id}`));
        if (ids.some(id => known.includes(id))) known.forEach(id => { controls["model-" + id].checked = ids.includes(id); });
      } else if (name === "steps" && accept(controls.steps, word)) {
        look.step.max = look.step.value = word;
      } else if (!fields[name] || !accept(fields[name], word)) {
        ignored.push(`${name}=${word}`);
      }
    }
    if (ignored.length) say(`Ignored in the address, because this page does not know it: ${ignored.join(", ")}.`);
  }

  function writeAddress() {
    const words = new URLSearchParams(Object.entries(fields).map(([name, field]) => [name, field.value]));
    words.set("models", chosen().map(model => model.id).join(","));
    try { history.replaceState(null, "", "?" + words.toString().replaceAll("%2C", ",") + location.hash); } catch { /* a sandboxed frame */ }
  }

  function showValues() {
    const value = (field, text) => { field.parentElement.querySelector("output").textContent = text; };
    value(controls.blend, Number(controls.blend.value).toFixed(2));
    value(controls.until, controls.until.value === controls.until.max ? "not used" : controls.until.value);
  }

  /** One image (C,R,R) in [-1,1] onto a canvas. x_t goes beyond: it is shown clipped. */
  function paint(canvas, image, { channels, resolution }) {
    const area = resolution ** 2, pixels = new Uint8ClampedArray(4 * area).fill(255);
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) pixels[4 * i + c] = Math.round((image[Math.min(c, channels - 1) * area + i] + 1) * 127.5);
    }
    canvas.getContext("2d").putImageData(new ImageData(pixels, resolution), 0, 0);
  }

  /** The training pictures of a model as arrays (C,R,R) in [-1,1]. */
  async function trainingImages(model) {
    const picture = new Image(), size = model.resolution, canvas = document.createElement("canvas");
    picture.src = root + model.nearest.file;
    await picture.decode();
    [canvas.width, canvas.height] = [size * model.nearest.images, size];
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(picture, 0, 0);
    return Array.from({ length: model.nearest.images }, (_, n) => {
      const { data } = pen.getImageData(n * size, 0, size, size);
      return Float32Array.from({ length: model.channels * size ** 2 }, (_, i) => data[4 * (i % size ** 2) + Math.floor(i / size ** 2)] / 127.5 - 1);
    });
  }

  function nearest(image, others) {
    const far = others.map(other => Math.sqrt(other.reduce((sum, value, i) => sum + (value - image[i]) ** 2, 0) / image.length));
    const index = far.indexOf(Math.min(...far));
    return { index, distance: far[index] };
  }

  function showStep() {
    for (const model of state.models) {
      const links = state.links[model.id] || [], link = links[Math.min(Number(look.step.value), links.length) - 1];
      const figure = document.getElementById("face-" + model.id);
      if (!link || !figure) continue;
      paint(figure.querySelector(".try-face"), link[look.show.value], model);
      figure.querySelector(".try-t").textContent = links.indexOf(link) + 1 === Number(controls.steps.value) ? "finished"
        : `after step ${links.indexOf(link) + 1} of ${controls.steps.value}, t\u00a0=\u00a0${link.t}`;
      look.step.previousElementSibling.textContent = `${links.indexOf(link) + 1} (t = ${link.t})`;
      if (!state.near[model.id]) continue;
      const { index, distance } = nearest(link.x_0, state.near[model.id]);
      paint(figure.querySelector(".try-near"), state.near[model.id][index], model);
      const limit = model.nearest.limit, copy = limit && distance < limit;
      figure.querySelector(".try-face").classList.toggle("try-copy", Boolean(copy));
      figure.querySelector(".try-distance").textContent = `Right: training image ${index + 1}, the nearest in pixels, `
        + `${distance.toFixed(2)} away.` + (limit ? ` Of unseen real pictures 95 % are at least ${limit.toFixed(2)} away${copy ? ": a copy." : "."}` : "");
    }
  }

  function addFigure(model) {
    const figure = document.createElement("figure");
    figure.id = "face-" + model.id;
    figure.innerHTML = `<div class="try-pair"><canvas class="try-face" role="img"></canvas></div>
      <figcaption><b></b> <span class="try-t"></span><br><span class="try-about"></span> <span class="try-distance"></span></figcaption>`;
    if (model.nearest) figure.firstChild.insertAdjacentHTML("beforeend", '<canvas class="try-near" role="img"></canvas>');
    for (const canvas of figure.querySelectorAll("canvas")) canvas.width = canvas.height = model.resolution;
    figure.querySelector(".try-face").setAttribute("aria-label", `a face drawn by ${model.title}`);
    figure.querySelector(".try-near")?.setAttribute("aria-label", `the training image of ${model.title} nearest to its face`);
    figure.querySelector("b").textContent = model.title;
    figure.querySelector(".try-about").textContent = model.about;
    find(".try-faces").append(figure);
  }

  function rest(text) {
    state.busy = false;
    controls.cancel.disabled = true;
    bar.hidden = true;
    if (text) say(text);
  }

  function hear({ data }) {
    if (data.loading) {
      say(`Loading ${data.loading}: ${(data.got / 1e6).toFixed(1)} of ${(data.of / 1e6).toFixed(1)} MB`);
      bar.value = data.got / data.of;
    } else if (data.saying) {
      say(data.saying);
    } else if (data.number !== state.number) {
      return;                                                    // of a picture that nobody waits for any more
    } else if (data.failed) {
      rest("Nothing more is drawn.");
      alarm(data.failed);
    } else if (data.done) {
      rest(`Done in ${((performance.now() - state.began) / 1000).toFixed(1)} s. Move any control to draw again; untick a model to draw faster.`);
    } else {
      const links = state.links[data.model], models = chosen(), at = models.findIndex(model => model.id === data.model);
      links.push(data);
      const total = Number(controls.steps.value);
      bar.value = (at + links.length / total) / models.length;
      say(`Drawing ${models[at].title}: step ${links.length} of ${total}`);
      look.step.disabled = false;
      showStep();
    }
  }

  /** On a phone the faces begin below the button: bring them to the hand that pressed it. */
  function follow() {
    const top = find(".try-status").getBoundingClientRect().top, still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (top > innerHeight / 2) find(".try-status").scrollIntoView({ behavior: still ? "auto" : "smooth" });
  }

  async function draw() {
    alarm("");
    const models = chosen(), { seed, other, blend: share } = controls, [first] = state.models;
    say("");
    if (!models.length) return alarm("Choose at least one model.");
    for (const field of [seed, other]) {
      if (!accept(field, field.value)) return alarm(`${field.name === "seed" ? "Seed" : "Second seed"} must be a whole number from ${field.min} to ${field.max}.`);
    }
    writeAddress();
    if (!state.worker) {
      state.worker = new Worker(root + "worker.js");
      state.worker.onmessage = hear;
      state.worker.onerror = event => { rest("Nothing more is drawn."); alarm(`The worker stopped: ${event.message || "worker.js cannot be loaded"}`); };
    }
    Object.assign(state, { number: state.number + 1, links: {}, busy: true, asked: true, began: performance.now() });
    find(".try-faces").replaceChildren();
    for (const model of models) {
      state.links[model.id] = [];
      addFigure(model);
      if (model.nearest && !state.near[model.id]) {
        try { state.near[model.id] = await trainingImages(model); } catch { alarm(`${model.title}: its training images (${model.nearest.file}) are missing.`); }
      }
    }
    controls.cancel.disabled = bar.hidden = false;
    bar.value = 0;
    look.step.max = look.step.value = controls.steps.value;
    const noise = blend(startNoise(first, seed.value), startNoise(first, other.value), Number(share.value));
    state.worker.postMessage({ number: state.number, models, source: first, noise, steps: Number(controls.steps.value), runtime: state.sizes,
      sampler: controls.sampler.value, until: Number(controls.until.value) });
  }

  /** A moved control draws again, once the hand is still; before the first picture nothing is fetched. */
  function later() {
    showValues();
    if (!state.asked) return;
    clearTimeout(state.wait);
    state.wait = setTimeout(draw, 250);
  }

  function cancel() {
    if (!state.busy) return;
    state.worker.postMessage({ number: ++state.number, cancel: true });
    rest("Cancelled.");
  }

  function connect() {
    find(".try-controls").addEventListener("submit", event => { event.preventDefault(); draw(); follow(); });
    find(".try-controls").addEventListener("input", later);
    find(".try-look").addEventListener("submit", event => event.preventDefault());
    find(".try-look").addEventListener("input", () => { showStep(); writeAddress(); });
    controls.cancel.addEventListener("click", cancel);
    controls.new.addEventListener("click", () => { controls.seed.value = Math.floor(Math.random() * 100000); draw(); follow(); });
    addEventListener("keydown", event => { if (event.key === "Escape") cancel(); });
  }

  async function json(file) {
    const answer = await fetch(root + file);
    if (!answer.ok) throw new Error(`${file} is missing (${answer.status}): put the whole folder there, or build the site again.`);
    return answer.json();
  }

  async function begin() {
    showValues();
    if (location.protocol === "file:") {
      throw new Error("Opened as a file, this page cannot draw: browsers let no such page read the models beside it. Serve the folder, "
        + "with python3 -m http.server, and open the address it names.");
    }
    [{ models: state.models }, state.sizes] = [await json("models.json"), await json("ort/sizes.json")];
    for (const model of state.models) {
      const label = document.createElement("label");
      label.innerHTML = `<input type="checkbox" name="model-${model.id}" checked> `;
      label.append(`${model.title} (${(model.bytes / 1e6).toFixed(1)} MB)`);
      find(".try-models").append(label);
    }
    find(".try-until").hidden = !state.models.some(model => model.source);
    readAddress();
    showValues();
    connect();
    place.dataset.ready = "yes";
  }

  begin().catch(error => {
    alarm(error.message);
    say("Nothing can be drawn here.");
    controls.namedItem("cancel").form.querySelectorAll("button").forEach(button => { button.disabled = true; });
  });
})();
