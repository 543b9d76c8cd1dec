// node --import: sends the agent's key with every request of the suite, which has no option for headers.
// The token goes to CONFORMANCE_ORIGIN only. The suite sends by fetch and undici, which share one dispatcher,
// and, where it needs headers that fetch would tidy up, by node:http.
import http from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import { getGlobalDispatcher, setGlobalDispatcher } from 'undici';

const { CONFORMANCE_ORIGIN: origin, CONFORMANCE_BEARER: token } = process.env;
const authorization = `Bearer ${token}`;

// undici hands headers on as a flat list of names and values, as pairs, or as an object.
function withToken(headers) {
  const list = [];
  if (typeof headers?.[Symbol.iterator] === 'function') list.push(...[...headers].flat());
  else for (const [name, value] of Object.entries(headers ?? {})) list.push(name, value);
  return [...list, 'authorization', authorization];
}

setGlobalDispatcher(
  getGlobalDispatcher().compose((dispatch) => (options, handler) => {
    const ours = String(options.origin) === origin;
    return dispatch(ours ? { ...options, headers: withToken(options.headers) } : options, handler);
  })
);

const plainRequest = http.request;
http.request = (options, ...rest) => {
  const request = plainRequest(options, ...rest);
  if (`http://${options.hostname}:${options.port}` === origin) {
    request.setHeader('authorization', authorization);
  }
  return request;
};
syncBuiltinESMExports();
