// Lets a program drive Firefox by lines of JSON: ["click", "#save"] is done, and answered.
//
//     node firefox.mjs FOLDER_OF_NODE_MODULES FIREFOX

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [tools, executablePath] = process.argv.slice(2);
const puppeteer = createRequire(`${tools}/`)("puppeteer-core");
const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true });
const page = await browser.newPage();
const faults = [];
page.setDefaultTimeout(120_000);
page.on("pageerror", (why) => faults.push(String(why)));

const calls = {
  window: (size) => page.setViewport(size),
  goto: (address) => page.goto(address),
  click: (what) => page.locator(what).click(),
  type: (text) => page.keyboard.type(text),
  async press(keys) {
    const held = keys.split("+"), key = held.pop();
    for (const each of held) await page.keyboard.down(each);
    await page.keyboard.press(key);
    for (const each of held) await page.keyboard.up(each);
  },
  wait_for_selector: async (what) => { await page.waitForSelector(what); },
  inner_text: (what) => page.$eval(what, (element) => element.innerText),
  evaluate: (words) => page.evaluate(words),
  screenshot: () => page.screenshot({ encoding: "base64" }),
  faults: () => faults,
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...words] = JSON.parse(line);
  let told;
  try {
    told = { answer: (await calls[name](...words)) ?? null };
  } catch (why) {
    told = { error: String(why) };
  }
  if (name === "goto") told = told.error ? told : { answer: null };
  process.stdout.write(`${JSON.stringify(told)}\n`);
}
await browser.close();
