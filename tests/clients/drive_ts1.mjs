// The official TypeScript SDK, 1.x: a program that calls tools itself.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ADDRESS, KEY, report, result, through } from './driving.mjs';

let progress = 0;
const onprogress = () => (progress += 1);

const client = new Client({ name: 'wardgate-clients', version: '1' });
await client.connect(
  new StreamableHTTPClientTransport(new URL(ADDRESS), { requestInit: { headers: { Authorization: `Bearer ${KEY}` } } }),
);
// Listing first also makes the client check results against the tools' output schemas.
const { tools } = await client.listTools();
const steps = await through(async (name, args) =>
  result(await client.callTool({ name, arguments: args }, undefined, { onprogress })),
);
await client.close();
report('@modelcontextprotocol/sdk', tools.map((tool) => tool.name), steps, progress);
