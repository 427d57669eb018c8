"use strict";

// Charts -----------------------------------------------------------------------------------------

const theme = JSON.parse(document.getElementById("theme").textContent);

function themeFor(place) {
  const narrow = place.clientWidth < 500;
  return {
    ...theme,
    axisY: { labelLimit: narrow ? 130 : theme.axis.labelLimit },
    legend: { ...theme.legend, columns: narrow ? 1 : theme.legend.columns },
  };
}

async function draw(figure) {
  const place = figure.querySelector(".chart");
  const spec = JSON.parse(figure.querySelector("script").textContent);
  try {
    // `ast` interprets Vega's expressions: the page forbids to compile them.
    await vegaEmbed(place, spec, {
      ast: true,
      renderer: "svg",
      actions: false,
      config: themeFor(place),
    });
    figure.dataset.drawn = "yes";
  } catch (error) {
    console.error(error);
    const words = document.createElement("p");
    words.textContent = `This chart could not be drawn: ${error.message}`;
    place.replaceChildren(words);
  }
}

async function drawAll() {
  for (const figure of document.querySelectorAll("figure")) {
    await draw(figure);
  }
  document.documentElement.dataset.drawn = "yes";
}

// Filter -----------------------------------------------------------------------------------------

const tables = [...document.querySelectorAll("details.table")].map((details) => ({
  details,
  count: details.querySelector(".count"),
  rows: [...details.querySelectorAll("tbody tr")].map((row) => ({
    row,
    text: row.textContent.toLowerCase(),
  })),
  open: details.open,
}));

let filtering = false;

function filter(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  let matching = 0;
  let all = 0;
  for (const table of tables) {
    if (words.length && !filtering) {
      table.open = table.details.open;
    }
    let found = 0;
    for (const { row, text } of table.rows) {
      row.hidden = !words.every((word) => text.includes(word));
      found += row.hidden ? 0 : 1;
    }
    const rows = table.rows.length;
    const noun = rows === 1 ? "row" : "rows";
    table.count.textContent = words.length ? `${found} of ${rows} ${noun}` : `${rows} ${noun}`;
    // What is found is shown, and afterwards everything is as it was.
    table.details.open = words.length ? found > 0 : filtering ? table.open : table.details.open;
    matching += found;
    all += rows;
  }
  filtering = words.length > 0;
  document.getElementById("matches").textContent = filtering
    ? `${matching} of ${all} rows match`
    : "";
}

document.getElementById("filter").addEventListener("input", (event) => filter(event.target.value));

drawAll();
