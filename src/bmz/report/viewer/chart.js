// A histogram, as a picture that says in words what it shows.

const BINS = 24, WIDTH = 320, HEIGHT = 90;

/** @param {number} value */
export const short = (value) => String(Number(value.toPrecision(3)));

/**
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 */
function part(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.textContent = text;
  return made;
}

/**
 * @param {string} what the axis, with its unit
 * @param {number[]} values
 * @param {[number, number]} [range] from the least to the greatest by default
 */
export function histogram(what, values, range) {
  if (!values.length) return [];
  let [low, high] = range || [Infinity, -Infinity];
  if (!range) for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  const width = (high - low) / BINS || 1;
  const counts = Array(BINS).fill(0);
  for (const value of values) counts[Math.min(Math.max(Math.floor((value - low) / width), 0), BINS - 1)] += 1;
  const most = Math.max(...counts);
  const sorted = [...values].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  const svg = part("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT + 18}`, role: "img",
    "aria-label": `${what}: ${values.length} objects from ${short(sorted[0])} to ${short(sorted[sorted.length - 1])}, median ${short(median)}` });
  counts.forEach((n, i) => {
    const tall = (n / most) * HEIGHT;
    svg.append(part("rect", { x: (i * WIDTH) / BINS + 1, y: HEIGHT - tall, width: WIDTH / BINS - 2, height: tall }));
  });
  svg.append(part("text", { x: 0, y: HEIGHT + 14 }, short(low)));
  svg.append(part("text", { x: WIDTH / 2, y: HEIGHT + 14, "text-anchor": "middle" }, what));
  svg.append(part("text", { x: WIDTH, y: HEIGHT + 14, "text-anchor": "end" }, short(high)));
  return [svg];
}
