// Parts of planes: what a viewer asks of whatever holds the pixels.

/** @typedef {Uint8Array | Uint16Array | Int16Array | Uint32Array | Float32Array | Float64Array} Numbers */

/**
 * A part of a plane: entry (i, j) stands for the pixels from `top + i * step`, `left + j * step`.
 * @typedef {{top: number, left: number, step: number, height: number, width: number, data: Numbers}} Part
 */

/** @typedef {{top: number, left: number, bottom: number, right: number, step: number}} Span */

/**
 * Position along the axes that are not seen.
 * @typedef {{t: number, z: number}} At
 */

/**
 * Say whether a part holds all of a span, at its step.
 * @param {Part} part
 * @param {Span} span
 */
export const holds = (part, span) =>
  part.step === span.step &&
  part.top <= span.top &&
  part.left <= span.left &&
  part.top + part.height * part.step >= span.bottom &&
  part.left + part.width * part.step >= span.right;
