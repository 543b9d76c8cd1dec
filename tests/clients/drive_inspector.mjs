// The MCP Inspector's command line: one process, and one session, for every call.

import { spawn } from 'node:child_process';
import { ADDRESS, KEY, report, result, through } from './driving.mjs';

const INSPECTOR = new URL('./node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js', import.meta.url);

async function inspect(...options) {
  const words = [INSPECTOR.pathname, "--cli", ADDRESS, "--transport", "http", "--header", `Authorization: Bearer ${KEY}`, ...options];
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.on('data', (data) => (out += data));
  child.stderr.on('data', (data) => (err += data));
  const code = await new Promise((resolve) => child.on('close', resolve));
  // 0 is success, 5 a result that says isError; everything else is a failure of the protocol.
  if (code !== 0 && code !== 5) throw new Error(`the inspector ended with ${code}: ${err}${out}`);
  return { code, said: JSON.parse(out) };
}

const { said } = await inspect('--method', 'tools/list');
const steps = await through(async (tool, args) => {
  const pairs = Object.entries(args).flatMap(([name, value]) => ['--tool-arg', `${name}=${value}`]);
  const { code, said } = await inspect('--method', 'tools/call', '--tool-name', tool, ...pairs);
  if ((code === 5) !== (said.isError === true)) throw new Error(`exit code ${code} and isError ${said.isError}`);
  return result(said);
});
report('@modelcontextprotocol/inspector', said.tools.map((tool) => tool.name), steps);
