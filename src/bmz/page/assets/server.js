// What the page asks of the program that serves it.

/** @typedef {import("./parts.js").Part} Part */

const ARRAYS = {
  uint8: Uint8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  uint32: Uint32Array,
  float32: Float32Array,
  float64: Float64Array,
};

/** An answer that is an error in words. */
export class Refused extends Error {
  /** @param {{error: string, hint?: string}} told */
  constructor(told) {
    super(told.hint ? `${told.error} ${told.hint}` : told.error);
  }
}

/**
 * @param {Response} response
 * @returns {Promise<Response>}
 */
async function sound(response) {
  if (response.ok) return response;
  const text = await response.text();
  let told = { error: `${response.status} ${text}` };
  if (response.headers.get("Content-Type") === "application/json") told = JSON.parse(text);
  throw new Refused(told);
}

/** @param {Record<string, unknown>} words */
const query = (words) =>
  new URLSearchParams(Object.entries(words).map(([name, value]) => [name, String(value)])).toString();

/**
 * @param {string} name
 * @param {Record<string, unknown>} [words]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function ask(name, words = {}, signal = undefined) {
  return (await sound(await fetch(`api/${name}?${query(words)}`, { signal }))).json();
}

/**
 * @param {string} name
 * @param {Record<string, unknown>} words
 * @param {AbortSignal} [signal]
 * @returns {Promise<Part>}
 */
export async function askPart(name, words, signal) {
  return (await partOf(await fetch(`api/${name}?${query(words)}`, { signal }))).part;
}

/**
 * @param {Response} response
 * @returns {Promise<{part: Part, facts: any}>} and what else is told of it
 */
async function partOf(response) {
  const { headers } = await sound(response);
  const facts = JSON.parse(headers.get("X-Facts") || "{}");
  const kind = ARRAYS[/** @type {keyof typeof ARRAYS} */ (facts.dtype)];
  const [height, width] = facts.shape;
  const data = new kind(await response.arrayBuffer());
  return { part: { top: facts.top, left: facts.left, step: facts.step, height, width, data }, facts };
}

/**
 * @param {string} name
 * @param {unknown} words
 * @param {AbortSignal} [signal]
 */
const post = (name, words, signal) =>
  fetch(`api/${name}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(words),
    signal,
  });

/**
 * @param {string} name
 * @param {unknown} words
 * @returns {Promise<any>}
 */
export async function change(name, words) {
  return (await sound(await post(name, words))).json();
}

/**
 * Change something, and get a part for it.
 * @param {string} name
 * @param {unknown} words
 */
export const changePart = async (name, words) => partOf(await post(name, words));

/**
 * Start work that takes long; `told` hears how far it is.
 * @param {string} name
 * @param {unknown} words
 * @param {(event: {stage?: string, done?: number, total?: number, note?: string}) => void} told
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function work(name, words, told, signal) {
  const response = await sound(await post(name, words, signal));
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    waiting += decoder.decode(value, { stream: !done });
    const lines = waiting.split("\n");
    waiting = lines.pop() || "";
    for (const line of lines) {
      const event = JSON.parse(line);
      if (event.error) throw new Refused(event);
      if ("answer" in event) return event.answer;
      told(event);
    }
    if (done) throw new Refused({ error: "The program has ended.", hint: "Start bmz open again." });
  }
}
