// What a click or a line in the image does: select, delete, merge, split, draw.

import { current, state, view } from "./state.js";
import { say, tell } from "./telling.js";
import { draw } from "./drawing.js";
import { keepSoon } from "./keeping.js";
import { drawOutcome } from "./outcome.js";
import { relabel } from "./results.js";
import { Cross } from "./cross.js";
import { $ } from "./controls.js";

export const cross = new Cross(view, {
  part: () => current()?.mask?.part || null, picked: () => state.picked, tool: () => state.tool,
  pick: (x, y) => pick(x, y), drawing: (line, done) => drawing(line, done), draw: () => draw(),
});

/** @param {string} tool */
export function setTool(tool) {
  state.tool = tool;
  state.line = [];
  cross.hide();
  $("tool").value = tool;
  view.drawn = tool === "split" || tool === "draw" ? drawing : null;
  draw();
}

/** @param {[number, number][]} line x and y @param {boolean} done */
function drawing(line, done) {
  state.line = line;
  draw();
  if (done) correct(line);
}

/** @param {[number, number][]} points x and y */
function correct(points) {
  const kind = /** @type {"delete"} */ (state.tool);
  state.line = [];
  state.picked = 0;
  tell("");
  void current()?.correct({ kind, points: points.map(([x, y]) => [y, x]), at: { ...state.at } }, tell);
  keepSoon();
}

export function undo() {
  const result = current();
  if (!result?.edits.length) return;
  result.edits = result.edits.slice(0, -1);
  relabel(result);
  keepSoon();
}

/** @param {number} x @param {number} y */
export function pick(x, y) {
  if (state.tool === "delete") return correct([[x + 0.5, y + 0.5]]);
  if (state.tool === "merge") {
    state.line = [...state.line, [x + 0.5, y + 0.5]];
    return state.line.length === 2 ? correct(state.line) : draw();
  }
  state.picked = current()?.mask?.labelAt(x, y) || 0;
  drawOutcome();
  draw();
  say(state.picked ? `object ${state.picked}` : "no object");
}
