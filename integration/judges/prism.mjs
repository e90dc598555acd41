// Judges a fake Connect server with Prism and the OpenAPI description: prism.mjs URL TOKEN PRISM SPEC
// Prism stands between and answers 500 itself where a reply is not as described.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';

const [fake, token, prism, spec] = process.argv.slice(2);
const VAULT = 'vaultmineaaaaaaaaaaaaaaaaa';
const DUP = 'vaultduponeaaaaaaaaaaaaaaa';
const DB = 'itemdbaaaaaaaaaaaaaaaaaaaa';
const NONE = 'a'.repeat(26);
const document = `/v1/vaults/${VAULT}/items/itemdocumentaaaaaaaaaaaaaa`;
const quoted = (filter) => `?filter=${encodeURIComponent(filter)}`;

// Every item of the first vault by its ID, and one of each other request: path, status, what the body must hold.
const listed = await (await fetch(`${fake}/__fake/vault`)).json();
const checks = [
  ['/v1/vaults', 200, 'Ünï'],
  [`/v1/vaults${quoted('name eq "My Vault"')}`, 200, VAULT],
  [`/v1/vaults/${VAULT}`, 200, '"contentVersion":1'],
  [`/v1/vaults/${VAULT}/items`, 200, 'Case Item'],
  [`/v1/vaults/${VAULT}/items${quoted('title eq "db"')}`, 200, DB],
  ...listed.vaults[0].items.map((item) => [`/v1/vaults/${VAULT}/items/${item.id}`, 200, item.id]),
  [`${document}/files`, 200, 'tls.pem'],
  [`${document}/files?inline_files=true`, 200, 'YSBkb2N1bWVudA'],
  [`${document}/files/filetlsaaaaaaaaaaaaaaaaaaa`, 200, 'content_path'],
  [`${document}/files/filetlsaaaaaaaaaaaaaaaaaaa/content`, 200, 'BEGIN FAKE'],
  ['/v1/vaults', 401, 'Invalid token signature', 'wrong'],
  [`/v1/vaults/${VAULT}/items/${DB}`, 401, 'Invalid token signature', 'wrong'],
  [`/v1/vaults/${DUP}`, 403, 'not in scope'],
  [`/v1/vaults/${DUP}/items/${DB}`, 403, 'not in scope'],
  [`/v1/vaults/${NONE}`, 404, 'not found'],
  [`/v1/vaults/${VAULT}/items/${NONE}`, 404, 'not found'],
  [`${document}/files/${NONE}`, 404, 'not found'],
  ['/heartbeat', 200, '.'],
  ['/health', 200, 'ACTIVE'],
];

const port = await freePort();
const proxy = spawn(prism, ['proxy', '--errors', '--port', port, spec, fake], { stdio: ['ignore', 'pipe', 'inherit'] });
let failed = 0;
try {
  await ready(proxy);
  await fetch(`${fake}/__fake/deny`, { method: 'POST', body: JSON.stringify({ vault: DUP }) });
  for (const [path, status, word, as] of checks) {
    const reply = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { authorization: `Bearer ${as ?? token}` } });
    const body = await reply.text();
    if (reply.status === status && body.includes(word)) continue;
    failed += 1;
    console.log(`FAILED ${path}: ${reply.status} ${body.slice(0, 1000)}`);
  }
} finally {
  proxy.kill();
}
console.log(`${checks.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

function ready(proxy) {
  let said = '';
  return new Promise((resolve, reject) => {
    proxy.stdout.on('data', (piece) => {
      said += piece;
      if (said.includes('Prism is listening')) resolve();
    });
    proxy.on('exit', () => reject(new Error(`prism ended: ${said}`)));
  });
}
