"use strict";

const text = (element) => element.textContent.trim();

function say(words) {
  document.getElementById("matches").textContent = words;
}

// Charts -----------------------------------------------------------------------------------------

const theme = JSON.parse(document.getElementById("theme").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

const figures = [];

function toFigure(figure, spec) {
  const title = text(figure.querySelector("strong"));
  return {
    figure,
    spec,
    place: figure.querySelector(".chart"),
    texts: spec.datasets.rows.map((row) =>
      [title, ...Object.values(row).filter((value) => typeof value === "string")]
        .join(" ")
        .toLowerCase()
    ),
    view: null,
    drawn: "",
  };
}

// The charts and the library that draws them are packed. That runs because the page's policy has the
// digest of what it unpacks to.
async function load() {
  const found = [...document.querySelectorAll("figure")];
  if (!found.length) {
    return;
  }
  try {
    const packed = JSON.parse(document.getElementById("packed").textContent);
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const { library, charts } = await new Response(unpacked).json();
    const script = document.createElement("script");
    script.textContent = library;
    document.head.append(script);
    figures.push(...found.map((figure) => toFigure(figure, charts[figure.id])));
  } catch (error) {
    console.error(error);
    found.forEach((figure) => fail(figure.querySelector(".chart"), error));
  }
}

function fail(place, error) {
  const words = document.createElement("p");
  words.textContent = `This chart could not be drawn: ${error.message}`;
  place.replaceChildren(words);
}

const narrow = (place) => place.clientWidth < 500;

function configFor(place) {
  return {
    ...theme.all,
    lineBreak: "\n",
    range: dark.matches ? theme.dark : theme.light,
    axisY: { labelLimit: narrow(place) ? 170 : theme.all.axis.labelLimit },
    legend: { ...theme.all.legend, columns: narrow(place) ? 1 : theme.all.legend.columns },
  };
}

// The rows that match, and the height that they need: a picture with names has a line for each,
// or two where it is narrow, the target on the second.
function withRows(spec, kept, narrow) {
  let rows = spec.datasets.rows.filter((_, i) => kept[i]);
  const lines = (some) => new Set(some.map((row) => row.y)).size || 1;
  let height = spec.height;
  if (typeof rows[0]?.y === "string") {
    height *= lines(rows) / lines(spec.datasets.rows);
    if (narrow && rows.some((row) => row.y.includes(" "))) {
      rows = rows.map((row) => ({ ...row, y: row.y.replace(/ (?=\S+$)/, "\n") }));
      height *= 1.7;
    }
  }
  return { ...spec, height, datasets: { ...spec.datasets, rows } };
}

async function draw(chart, words) {
  const kept = chart.texts.map((row) => words.every((word) => row.includes(word)));
  chart.figure.hidden = words.length > 0 && !kept.includes(true);
  const wanted = `${dark.matches} ${kept.map(Number).join("")}`;
  if (chart.figure.hidden || chart.drawn === wanted) {
    return;
  }
  chart.drawn = wanted;
  chart.view?.finalize();
  try {
    // `ast` interprets Vega's expressions: the page forbids to compile them.
    chart.view = await vegaEmbed(chart.place, withRows(chart.spec, kept, narrow(chart.place)), {
      ast: true,
      renderer: "svg",
      actions: false,
      config: configFor(chart.place),
    });
  } catch (error) {
    console.error(error);
    fail(chart.place, error);
  }
}

let drawing = load();
let latest = 0;

// One after the other; what is asked for last stops what was asked for before.
function drawAll(words) {
  const turn = ++latest;
  delete document.documentElement.dataset.drawn;
  drawing = drawing.then(async () => {
    for (const chart of figures) {
      if (turn !== latest) {
        return;
      }
      await draw(chart, words);
    }
    document.documentElement.dataset.drawn = "yes";
  });
}

// Tables -----------------------------------------------------------------------------------------

const tables = [...document.querySelectorAll("details.table")].map((details) => {
  const body = details.querySelector("tbody");
  return {
    details,
    body,
    heads: [...details.querySelectorAll("thead th")],
    count: details.querySelector(".count"),
    rows: [...body.rows].map((row) => ({ row, text: row.textContent.toLowerCase() })),
    open: details.open,
    sorted: null,
  };
});

const PREFIXES = { n: 1e-9, "µ": 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9 };

// The first number of a cell, and its unit: 1.2 ms is 0.0012 and s.
function number(cell) {
  const found = /^[^\d-]*(-?\d[\d.]*(?:e[-+]?\d+)?)\s*(?:([nµmkMG]?)([sB])\b)?/.exec(text(cell));
  return found ? [found[1] * (PREFIXES[found[2]] ?? 1), found[3] ?? ""] : [NaN, ""];
}

function sort(table, column, descending) {
  const head = table.heads[column];
  const numeric = head?.classList.contains("number");
  const key = ({ row }) => (numeric ? number(row.cells[column])[0] : text(row.cells[column]));
  const rows = [...table.rows];
  if (head) {
    const way = descending ? -1 : 1;
    const keys = new Map(rows.map((row) => [row, key(row)]));
    rows.sort((one, other) => {
      const [a, b] = [keys.get(one), keys.get(other)];
      if (!numeric) {
        return way * a.localeCompare(b, "en", { numeric: true });
      }
      // What has no number is last either way.
      return Number.isNaN(a) - Number.isNaN(b) || way * (a - b) || 0;
    });
  }
  for (const other of table.heads) {
    other.removeAttribute("aria-sort");
  }
  head?.setAttribute("aria-sort", descending ? "descending" : "ascending");
  table.sorted = head ? `${table.details.id}:${column}${descending ? ":d" : ""}` : null;
  table.body.append(...rows.map(({ row }) => row));
}

// What is shown of a table, in its order; times and sizes in seconds and bytes.
function shown(table) {
  const rows = [...table.body.rows].filter((row) => !row.hidden);
  const units = table.heads.map((head, i) => {
    const known = new Set(rows.map((row) => number(row.cells[i])[1]).filter(Boolean));
    return head.classList.contains("number") && known.size === 1 ? [...known][0] : "";
  });
  const names = table.heads.map((head, i) => text(head) + (units[i] && ` (${units[i]})`));
  const value = (cell, unit) =>
    unit && text(cell) ? Number(number(cell)[0].toPrecision(6)) : text(cell);
  return [names, rows.map((row) => units.map((unit, i) => value(row.cells[i], unit)))];
}

const FORMATS = {
  csv(names, rows) {
    const field = (value) => {
      // A spreadsheet computes what begins like this.
      const safe = /^[=+@-]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : `${value}`;
      return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    return [names, ...rows].map((row) => `${row.map(field).join(",")}\r\n`).join("");
  },
  json(names, rows) {
    const objects = rows.map((row) => Object.fromEntries(row.map((value, i) => [names[i], value])));
    return `${JSON.stringify(objects, null, 1)}\n`;
  },
};

function save(table, as) {
  const url = URL.createObjectURL(new Blob([FORMATS[as](...shown(table))]));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${table.details.id}.${as}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

async function copy(command) {
  try {
    await navigator.clipboard.writeText(command);
    say(`Copied: ${command}`);
  } catch {
    say(`To be copied by hand: ${command}`);
  }
}

for (const button of document.querySelectorAll(".copy")) {
  const words = [button.closest("details")?.dataset.start, button.dataset.command];
  button.dataset.command = words.filter(Boolean).join(" ");
  button.title = button.dataset.command;
  button.setAttribute("aria-label", `Copy the command for ${text(button.parentElement)}`);
  button.addEventListener("click", () => copy(button.dataset.command));
}

for (const table of tables) {
  table.details.addEventListener("click", ({ target }) => {
    const button = target.closest("button:not(.copy)");
    if (button?.matches(".save")) {
      save(table, button.dataset.as);
    } else if (button?.matches(".all")) {
      const every = table.details.querySelector("table").classList.toggle("every");
      button.setAttribute("aria-pressed", every);
    } else if (button) {
      const head = button.closest("th");
      const before = head.getAttribute("aria-sort");
      const column = before === "descending" ? -1 : table.heads.indexOf(head);
      sort(table, column, before === "ascending");
      keep();
    }
  });
}

// Filter, and what the address keeps -------------------------------------------------------------

const field = document.getElementById("filter");
let filtering = false;

const wordsOf = (query) => query.toLowerCase().split(/\s+/).filter(Boolean);

function filter() {
  const words = wordsOf(field.value);
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
  say(filtering ? `${matching} of ${all} rows match` : "");
  drawAll(words);
}

function keep() {
  const state = new URLSearchParams();
  if (field.value.trim()) {
    state.set("filter", field.value.trim());
  }
  for (const { sorted } of tables.filter((table) => table.sorted)) {
    state.append("sort", sorted);
  }
  const query = state.size ? `?${state}` : location.pathname;
  history.replaceState(null, "", query + location.hash);
}

function restore() {
  const state = new URLSearchParams(location.search);
  field.value = state.get("filter") ?? "";
  for (const wanted of state.getAll("sort")) {
    const [id, column, descending] = wanted.split(":");
    const table = tables.find(({ details }) => details.id === id);
    if (table?.heads[column]) {
      sort(table, Number(column), descending === "d");
      table.details.open = true;
    }
  }
}

let waiting;
field.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    filter();
    keep();
  }, 120);
});
dark.addEventListener("change", () => drawAll(wordsOf(field.value)));

restore();
filter();
