// What the drivers in JavaScript share; see driving.py.
//
//     WARDGATE_KEY=… node drive_NAME.mjs URL [MODE] < steps.json

import { readFileSync } from 'node:fs';

export const ADDRESS = process.argv[2];
export const MODE = process.argv[3] ?? '';
export const KEY = process.env.WARDGATE_KEY;
export const STEPS = JSON.parse(readFileSync(0, 'utf8'));

// All calls of a step at once, one step after the other.
export async function through(call) {
  const steps = {};
  for (const step of STEPS) {
    steps[step.name] = await Promise.all(step.calls.map(({ tool, arguments: args }) => call(tool, args)));
  }
  return steps;
}

// A result as a program that uses the client directly has it.
export function result(got) {
  const text = got.content.map((block) => block.text ?? JSON.stringify(block)).join('\n');
  return { text, structured: got.structuredContent ?? null, failed: got.isError === true };
}

export function version(name) {
  const file = new URL(`./node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(file, 'utf8')).version;
}

export function report(name, tools, steps, progress = null) {
  console.log(JSON.stringify({ version: version(name), tools, steps, progress }));
}
