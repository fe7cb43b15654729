// What the page holds: it is written by the program, and nothing is asked for from elsewhere.

/**
 * A channel: one picture for each plane, and the intensities that are its black and its white.
 * @typedef {{name: string, colour: string, limits: [number, number], uris: string[]}} ChannelData
 */
/**
 * An object that is wrong; `label` is that of the truth where `true` is set. Places are px of the picture.
 * @typedef {{what: string, label: number, true: boolean, x: number, y: number, r: number}} Fault
 */
/**
 * A model with a setting. `masks` has packed labels for each plane; null where there are none.
 * `frames` are those of the rows of tracks.
 * @typedef {{name: string, model: string, title: string, settings: Record<string, string>, command: string,
 *   masks: string[] | null, error: string | null, objects: number, counted: string, figure: string,
 *   table: {names: string[], columns: any[][]}, places: [number[], number[], number[]], sizes: number[],
 *   frames: number[] | null, without_row: number, errors: Fault[]}} ResultData
 */
/**
 * `at` has the positions of the planes along t and z, `factor` the px of the image for one of the picture.
 * @typedef {{name: string, width: number, height: number, factor: number, um: number | null, unit: string,
 *   at: Record<string, number[]>, sizes: Record<string, number>, start: Record<string, number>,
 *   channels: ChannelData[], warnings: string[], reason: string, headings: string[], ranking: string[][],
 *   sorted_by: string, truth: string[] | null, known: boolean, sweep: Record<string, string[]>,
 *   left_out: number, results: ResultData[]}} ImageData_
 */
/**
 * @typedef {{headings: string[], rows: string[][], names: string[], worst: (number | null)[]}} OverImages
 */
/**
 * @typedef {{command: string, versions: Record<string, string>, models: {name: string, title: string, sha256: string}[],
 *   images: ImageData_[], over: OverImages | null, failed: string[]}} Document_
 */

/** @returns {Document_} */
export const readDocument = () => JSON.parse(/** @type {HTMLElement} */ (document.getElementById("data")).textContent || "{}");
