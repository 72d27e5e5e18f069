/* The chapters' sliders without a kernel: every setting was drawn beforehand (data/explorers), here it is only shown. */
"use strict";

/** A labelled menu for words, a slider for numbers; calls changed(index) and says which value it shows. */
function explorerControl(control, changed) {
  const label = document.createElement("label"), name = document.createElement("span"), shown = document.createElement("output");
  const numbers = control.values.every(value => typeof value === "number");
  const input = document.createElement(numbers ? "input" : "select");
  name.textContent = control.label;
  if (numbers) {
    Object.assign(input, {type: "range", min: 0, max: control.values.length - 1, step: 1});
  } else {
    for (const value of control.values) input.add(new Option(value, input.length));
  }
  input.value = control.start;
  input.name = control.name;
  if (control.values.length < 2) {                       // only the notebook can move it: say so, do not seem to
    input.disabled = true;
    input.title = "fixed on this page; the notebook moves it";
    name.textContent += " (fixed here)";
  }
  const say = () => {
    shown.textContent = numbers ? control.values[input.value] : "";
    if (numbers) input.setAttribute("aria-valuetext", control.values[input.value]);
  };
  input.addEventListener("input", () => { say(); changed(Number(input.value)); });
  say();
  label.append(name, ...(numbers ? [shown] : []), input);
  return label;
}

/** Controls above the figure of the cell before; a move changes the picture, its text alternative and the line below it. */
function explorerFrames(box) {
  const {controls, frames, folder} = JSON.parse(box.querySelector("script").textContent);
  const picture = [...box.previousElementSibling.querySelectorAll("img")].pop();
  const chosen = controls.map(control => control.start), bar = document.createElement("div"), said = document.createElement("p");
  bar.className = "explorer-controls";
  said.setAttribute("role", "status");
  const frame = () => frames[chosen.reduce((place, value, i) => place * controls[i].values.length + value, 0)];
  const show = () => {
    const {file, alt} = frame();
    picture.hidden = !file;
    if (file) picture.src = folder + file;
    picture.alt = said.textContent = alt;
  };
  controls.forEach((control, i) => bar.append(explorerControl(control, value => { chosen[i] = value; show(); })));
  show();                                                // the committed picture is larger: the first move would make the page jump
  box.append(bar, picture, said);
}

/** An element of a drawing. */
function drawn(tag, attributes, ...inside) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...inside);
  return node;
}

/** Three digits as Python's .3g has them: of two that are equally near, the even one. */
const digits = new Intl.NumberFormat("en", {maximumSignificantDigits: 3, roundingMode: "halfEven", useGrouping: false});
const threeDigits = value => digits.format(value);

/** One score along an axis of the grid: dots, the real images' dashed line, the band of luck, a ring round the chosen setting. */
function scorePanel(metric, points, chosen, [low, high]) {
  const real = points[chosen].real[metric], values = points.map(point => point.scores[metric]);
  const least = Math.min(real, low, ...values), most = Math.max(real, high, ...values), pad = 0.06 * (most - least);
  const y = value => (130 - 105 * (value - least + pad) / (most - least + 2 * pad)).toFixed(1);
  const x = i => (55 + 150 * (points.length === 1 ? 0.5 : i / (points.length - 1))).toFixed(1);
  const panel = drawn("svg", {viewBox: "0 0 220 150", class: "panel", "aria-hidden": true});
  panel.append(drawn("text", {x: 110, y: 12, "text-anchor": "middle"}, metric),
    drawn("rect", {x: 45, y: y(high), width: 170, height: y(low) - y(high), class: "luck"}),
    drawn("path", {d: `M45 ${y(real)}H215`, class: "real"}),
    drawn("polyline", {points: values.map((value, i) => `${x(i)},${y(value)}`).join(" "), class: "way"}),
    ...values.map((value, i) => drawn("circle", {cx: x(i), cy: y(value), r: 3.5, class: "dot"})),
    drawn("circle", {cx: x(chosen), cy: y(values[chosen]), r: 7.5, class: "ring"}),
    ...[least, most].map(value => drawn("text", {x: 41, y: Number(y(value)) + 4, "text-anchor": "end"}, threeDigits(value))),
    drawn("text", {x: 130, y: 146, "text-anchor": "middle"}, points[chosen].value));
  return panel;
}

/** Chapter 08's grid: a menu of axes, a slider along the axis; samples beside the default's, four scores. */
function explorerAblations(box) {
  const {axes, luck, rows, columns, folder, ...grid} = JSON.parse(box.querySelector("script").textContent);
  const old = [...box.previousElementSibling.querySelectorAll("img")].pop(), names = Object.keys(axes);
  const bar = document.createElement("div"), faces = document.createElement("div"), panels = document.createElement("div");
  const said = document.createElement("p"), slot = document.createElement("span"), key = document.createElement("p");
  let axis = "λ2, L_img", place = 0;

  function thumbs(name, row) {
    const line = document.createElement("figure"), words = document.createElement("figcaption"), strip = document.createElement("div");
    words.textContent = name;
    strip.className = "strip";
    strip.style.aspectRatio = columns;
    strip.style.background = `url(${folder}sheet.webp) 0 ${100 * row / (rows - 1)}% / 100% auto`;
    line.append(words, strip);
    return line;
  }

  function show() {
    const points = axes[axis], chosen = points[place];
    const words = Object.entries(chosen.scores).map(([metric, value]) => `${metric} ${threeDigits(value)}`).join(", ");
    faces.replaceChildren(thumbs("the default", grid.default), thumbs(`${axis}: ${chosen.value}`, chosen.row));
    panels.replaceChildren(...Object.keys(luck).map(metric => scorePanel(metric, points, place, luck[metric])));
    key.textContent = `Dots from left to right: ${points.map(point => point.value).join(", ")}. Ring: the setting chosen. `
      + "Dashed: real images. Band: what another seed of the default may give.";
    said.textContent = `${axis}: ${chosen.value}: ${words}; the samples beside the default's, and the scores along the axis.`;
  }

  function along() {
    const label = explorerControl({name: "place", label: "setting", values: axes[axis].map((_, i) => i), start: place},
                                  value => { place = value; mark(); show(); });
    const mark = () => {
      const value = axes[axis][place].value;
      label.querySelector("output").textContent = value;
      label.querySelector("input").setAttribute("aria-valuetext", value);
    };
    slot.replaceChildren(label);
    mark();
  }

  bar.className = "explorer-controls";
  faces.className = "explorer-faces";
  panels.className = "explorer-panels";
  key.className = "explorer-key";
  said.setAttribute("role", "status");
  bar.append(explorerControl({name: "axis", label: "axis", values: names, start: names.indexOf(axis)},
                             value => { axis = names[value]; place = 0; along(); show(); }), slot);
  along();
  show();
  old.hidden = true;
  box.append(bar, faces, panels, key, said);
}

/** Chapter 06's weights: the share of each term in the summed length of all gradients. */
function explorerWeights(box) {
  const {norms, start} = JSON.parse(box.querySelector("script").textContent), weights = {...start};
  const old = [...box.previousElementSibling.querySelectorAll("img")].pop();
  const bar = document.createElement("div"), bars = document.createElement("div"), said = document.createElement("p");
  const colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"];

  function show() {
    const told = [];
    bars.replaceChildren();
    for (const [where, lengths] of Object.entries(norms)) {
      const pulls = Object.entries(lengths).map(([term, norm]) => [term, (weights[term] ?? 1) * norm]);
      const total = pulls.reduce((sum, [, pull]) => sum + pull, 0) || 1, line = document.createElement("figure");
      const words = document.createElement("figcaption"), strip = document.createElement("div");
      words.textContent = where;
      strip.className = "shares";
      pulls.forEach(([term, pull], i) => {
        const part = document.createElement("span");
        part.style.width = `${100 * pull / total}%`;
        part.style.background = colours[i];
        part.textContent = pull / total > 0.09 ? `${term} ${Math.round(100 * pull / total)}%` : "";
        strip.append(part);
      });
      line.append(words, strip);
      bars.append(line);
      told.push(`${where}: ` + pulls.map(([term, pull]) => `${term} ${Math.round(100 * pull / total)}%`).join(", "));
    }
    said.textContent = told.join("; ");
  }

  for (const [term, value] of Object.entries(start)) {
    const label = document.createElement("label"), shown = document.createElement("output");
    const input = Object.assign(document.createElement("input"), {type: "range", name: term, min: 0, max: 4, step: 0.01, value});
    shown.textContent = value;
    input.addEventListener("input", () => { weights[term] = Number(input.value); shown.textContent = input.value; show(); });
    label.append(`λ ${term}`, shown, input);
    bar.append(label);
  }
  bar.className = "explorer-controls";
  said.setAttribute("role", "status");
  show();
  old.hidden = true;
  box.append(bar, bars, said);
}

const EXPLORERS = {frames: explorerFrames, ablations: explorerAblations, weights: explorerWeights};
for (const box of document.querySelectorAll(".explorer")) EXPLORERS[box.dataset.kind]?.(box);
