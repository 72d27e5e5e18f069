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
  const say = () => {
    shown.textContent = numbers ? control.values[input.value] : "";
    if (numbers) input.setAttribute("aria-valuetext", control.values[input.value]);
  };
  input.addEventListener("input", () => { say(); changed(Number(input.value)); });
  say();
  label.append(name, input, ...(numbers ? [shown] : []));
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
  said.textContent = picture.alt;
  box.append(bar, picture, said);
}

document.querySelectorAll(".explorer[data-kind=frames]").forEach(explorerFrames);
