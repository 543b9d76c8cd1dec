// The official TypeScript SDK, 2.x: a program that calls tools itself.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { ADDRESS, KEY, MODE, report, result, through } from './driving.mjs';

let progress = 0;
const onprogress = () => (progress += 1);

const options = MODE === 'auto' ? { versionNegotiation: { mode: 'auto' } } : {};
const client = new Client({ name: 'wardgate-clients', version: '1' }, options);
await client.connect(
  new StreamableHTTPClientTransport(new URL(ADDRESS), { requestInit: { headers: { Authorization: `Bearer ${KEY}` } } }),
);
// Listing first also makes the client check results against the tools' output schemas.
const { tools } = await client.listTools();
const steps = await through(async (name, args) => result(await client.callTool({ name, arguments: args }, { onprogress })));
await client.close();
report('@modelcontextprotocol/client', tools.map((tool) => tool.name), steps, progress);
