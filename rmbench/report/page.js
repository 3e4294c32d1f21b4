"use strict";
const specs = JSON.parse(document.getElementById("specs").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

function config() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const ink = colour("--ink"), line = colour("--line"), first = colour("--first");
  const words = { labelColor: ink, titleColor: ink, labelFont: "system-ui", titleFont: "system-ui",
    labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" };
  return {
    background: "transparent",
    view: { stroke: null },
    axis: { ...words, labelFlush: false, labelOverlap: "greedy", gridColor: line, domainColor: line, tickColor: line },
    legend: { ...words, orient: "top", symbolSize: 80 },
    range: { category: [first, colour("--second"), colour("--third")] },
    style: { ...Object.fromEntries(["first", "second", "third", "soft", "ink"].map((name) => [name, { color: colour("--" + name) }])),
      words: { fill: ink, font: "system-ui", fontSize: 11 } },
    bar: { color: first }, point: { color: first }, rule: { color: ink }, line: { color: first },
  };
}

async function draw() {
  const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false,
    tooltip: { disableDefaultStyle: true }, config: config() };
  for (const place of document.querySelectorAll("[data-spec]")) {
    try {
      await vegaEmbed(place, specs[place.dataset.spec], options);
    } catch (error) {
      place.textContent = "This plot could not be drawn: " + error;
      console.error(error);
    }
  }
  document.documentElement.dataset.drawn = "yes";
}

dark.addEventListener("change", draw);
draw();
