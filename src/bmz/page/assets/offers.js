// Models of the zoo that fit the image.

import { work } from "./server.js";
import { state } from "./state.js";
import { busy, tellProgress } from "./telling.js";
import { tryModel } from "./results.js";
import { $, make } from "./controls.js";

export async function fitModels() {
  await busy("ranking the models of the zoo", async (signal) => {
    const ranking = await work("fit", { image: state.image }, tellProgress, signal);
    const rows = ranking.models.map((/** @type {any} */ model) => {
      const fit = model.images?.[0] || model;
      const channels = fit.channels && fit.named !== false ? fit.channels.join(",") : null;
      const button = make("button", { type: "button", ariaLabel: `Try ${model.id}`, onclick: () => tryModel(model.id, { channels, scale: fit.resized ? "auto" : null }) }, "Try");
      const why = (model.reasons || []).join("; ");
      return make("tr", {}, make("td", {}, button), make("td", { title: why }, model.id), make("td", {}, model.verdict), make("td", {}, Number(model.score).toFixed(2)));
    });
    $("offers").replaceChildren(make("tbody", {}, ...rows));
    $("offers").hidden = false;
    $("known").replaceChildren(...ranking.models.map((/** @type {any} */ model) => make("option", { value: model.id })));
  });
}
