// Curves over time: the values under the pointer, and one line set apart by its name in the legend.
"use strict";

for (const figure of document.querySelectorAll(".over-time")) {
  const lines = [...figure.querySelectorAll("svg.lines g")];
  const names = [...figure.querySelectorAll(".legend li")];
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  figure.append(tip);

  const pick = (line) => {
    figure.classList.toggle("picked", line !== null);
    for (const part of [...lines, ...names]) part.classList.toggle("here", part.dataset.line === line);
  };
  for (const name of names) {
    for (const on of ["pointerenter", "focus"]) name.addEventListener(on, () => pick(name.dataset.line));
    for (const off of ["pointerleave", "blur"]) name.addEventListener(off, () => pick(null));
  }

  const points = lines.flatMap((line) =>
    [...line.querySelectorAll("circle")].map((dot) => ({
      x: Number(dot.getAttribute("cx")),
      y: Number(dot.getAttribute("cy")),
      text: `${dot.dataset.value}   ${dot.dataset.name}`,
      when: dot.dataset.when,
    })));
  const drawing = figure.querySelector("svg.lines");
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * drawing.viewBox.baseVal.width;
    const near = Math.min(...points.map((p) => Math.abs(p.x - at)));
    const here = points.filter((p) => Math.abs(Math.abs(p.x - at) - near) < 0.01).sort((a, b) => a.y - b.y);
    tip.textContent = [here[0].when, ...here.map((p) => p.text)].join("\n");
    tip.hidden = false;
    const frame = figure.getBoundingClientRect();
    const right = event.clientX - frame.left + 18;
    tip.style.left = `${Math.max(0, right + tip.offsetWidth > frame.width ? right - tip.offsetWidth - 36 : right)}px`;
    tip.style.top = `${event.clientY - frame.top + 14}px`;
  });
  drawing.addEventListener("pointerleave", () => { tip.hidden = true; });
}
