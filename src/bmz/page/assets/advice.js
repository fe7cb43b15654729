// What a finding advises, as something to choose.

/** @typedef {import("./result.js").Choice} Choice */

/**
 * Read options of `bmz run` that the page has, too, out of a hint.
 * @param {string} hint
 * @returns {Partial<Choice> | null} null where there is nothing to choose
 */
export function advised(hint) {
  const scale = /--scale (auto|\d+(?:\.\d+)?)/.exec(hint);
  const channels = /--channels (\d+(?:,\d+)*)(?![\w,])/.exec(hint);
  const invert = /--invert\b/.test(hint);
  if (!scale && !channels && !invert) return null;
  return {
    ...(invert && { invert }),
    ...(scale && { scale: scale[1] === "auto" ? "auto" : Number(scale[1]) }),
    ...(channels && { channels: channels[1] }),
  };
}
