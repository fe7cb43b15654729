// What came out: the count, the sizes, the object that is selected; and what is kept of it.

import { change, work } from "./server.js";
import { current, state } from "./state.js";
import { busy, say, tellProgress } from "./telling.js";
import { renewed } from "./drawing.js";
import { drawResults } from "./results.js";
import { drawTuning } from "./tuning.js";
import { histogram } from "./chart.js";
import { $, keepingFocus, make } from "./controls.js";

export const DIAMETER = "equivalent_diameter_area"; // as scikit-image names it

export function drawOutcome() {
  const result = current();
  $("outcome").hidden = !result?.mask;
  if (!result?.mask) return;
  $("count").textContent = result.counted;
  drawCharts(result.table);
  $("undo").disabled = !result.edits.length;
  if (result.edits.length) $("count").textContent += `, ${result.edits.length} correction${result.edits.length === 1 ? "" : "s"}`;
  $("judged").textContent = state.picked ? `Object ${state.picked}` : "This mask";
  const row = state.picked ? result.row(state.picked) : [];
  $("object").replaceChildren(...row.flatMap(([heading, value]) => [make("dt", {}, heading), make("dd", {}, String(value ?? ""))]));
}

/** @type {Record<string, any[]> | null} */
let charted = null;
/** @param {Record<string, any[]>} table */
function drawCharts(table) {
  if (table === charted) return; // while a slider moves, the table stays
  charted = table;
  const [um, px] = ["um", "px"].map((unit) => table[`${DIAMETER}_${unit}`]);
  $("sizes").replaceChildren(...histogram(`equivalent diameter, ${um ? "um" : "px"}`, (um || px || []).filter(Number.isFinite)));
  const scored = ["confidence", "score"].find((name) => name in table);
  $("scores").replaceChildren(...(scored ? histogram(scored, table[scored].filter(Number.isFinite), [0, 1]) : []));
}

export function drawPanels() {
  keepingFocus(() => {
    drawResults();
    drawTuning();
    drawOutcome();
  });
}

export function outcomeChanged() {
  keepingFocus(() => {
    drawResults();
    drawOutcome();
  });
  renewed();
  say(`${current()?.model}: ${$("count").textContent}`);
}

export async function useSettings() {
  const result = current();
  if (!result?.mask) return;
  const { command } = await change("command", { attempt: result.mask.id, settings: result.settings });
  $("command").textContent = command;
  $("command").hidden = false;
}

export async function save() {
  const result = current(), { mask } = result || {};
  if (!result || !mask) return;
  await busy("saving", async (signal) => {
    const saved = await work("save", { attempt: mask.id, settings: result.settings, edits: result.edits }, tellProgress, signal);
    const failed = saved.failed.length ? ` ${saved.failed.length} failed: ${saved.failed.join("; ")}` : "";
    $("command").textContent = `# ${saved.done} saved in ${saved.folder}.${failed}\n${saved.command}`;
    $("command").hidden = false;
  });
}

/** @param {"right" | "wrong"} verdict */
export async function judge(verdict) {
  const result = current();
  if (!result?.mask) return;
  const row = state.picked ? Object.fromEntries(result.row(state.picked)) : null;
  const { file, rows } = await change("judge", {
    image: state.image, at: state.at, attempt: result.mask.id, settings: result.settings, verdict,
    object: row && { label: row.label, y: row.centroid_y_px, x: row.centroid_x_px, area_px: row.area_px ?? null },
  });
  $("command").textContent = `# kept as row ${rows} of ${file}`;
  $("command").hidden = false;
}
