// Judges a fake 1Password service with @1password/sdk: account.cjs URL TOKENFILE VAULT VECTORS...
const fs = require('fs');
const { createClient, RateLimitExceededError } = require('@1password/sdk');

const [url, tokenFile, vaultFile, ...vectorFiles] = process.argv.slice(2);
const token = fs.readFileSync(tokenFile, 'utf8').trim();
const documents = JSON.parse(fs.readFileSync(vaultFile, 'utf8')).vaults;
const rows = vectorFiles.flatMap((file) => fs.readFileSync(file, 'utf8').trimEnd().split('\n'))
  .filter((line) => !line.startsWith('#')).map((line) => line.split('\t'));
// Of two rows of one reference the later counts.
const vectors = [...new Map(rows.map(([reference, kind, text]) => [reference, [reference, kind, JSON.parse(text)]])).values()];
const MINE = 'vaultmineaaaaaaaaaaaaaaaaa';
const DB = 'itemdbaaaaaaaaaaaaaaaaaaaa';
const WORDS = {
  'no vault': ['no vault matched', 'vaultNotFound'],
  'several vaults': ['more than one vault matched', 'tooManyVaults'],
  'no item': ['no item matched', 'itemNotFound'],
  'several items': ['more than one item matched', 'tooManyItems'],
  'no section': ['no section matched', 'noMatchingSections'],
  'no field': ['field cannot be found', 'fieldNotFound'],
  'several fields': ['more than one field matched', 'tooManyMatchingFields'],
  'not an OTP field': ['can only be applied to TOTP', 'incompatibleTOTPQueryParameterField'],
  'not a private key': ['can only be applied to a private key', 'incompatibleSshKeyQueryParameterField'],
  'no text': ['only text files are supported', 'unsupportedFileFormat'],
  'no value': ['unable to read value', 'other'],
};

const connect = () => createClient({ auth: token, integrationName: 'judge', integrationVersion: '1' });
const steer = (what, body, method = 'POST') => fetch(`${url}/__fake/${what}`, { method, body: JSON.stringify(body) });
const same = (left, right) => JSON.stringify(left) === JSON.stringify(right);
const agrees = (kind, expected, value) => {
  if (kind === 'otp') return /^[0-9]{6}$/.test(value);
  return kind === 'is' ? value === expected : kind === 'begins' && value.startsWith(expected);
};
const message = (error) => (error instanceof Error ? error.message : String(error));
const outcome = (asked) => asked.then((value) => ({ value }), (error) => ({ error: message(error) }));

const resolves = async (client, reference, kind, expected) => {
  const { value, error } = await outcome(client.secrets.resolve(reference));
  if (error !== undefined) return (expected in WORDS && error.includes(WORDS[expected][0])) || error;
  return agrees(kind, expected, value) || `gave ${JSON.stringify(value)}`;
};

const checks = {
  'resolves all in one batch': async (client) => {
    // But for titles that look like an ID: a batch asks for them as such, and fails.
    const batch = vectors.filter(([reference]) => !reference.includes('/abcdefghijklmnopqrstuvwxyz/'));
    const { individualResponses } = await client.secrets.resolveAll(batch.map(([reference]) => reference));
    const wrong = batch.filter(([reference, kind, expected]) => {
      const { content, error } = individualResponses[reference];
      return content ? !agrees(kind, expected, content.secret) : error.type !== WORDS[expected]?.[1];
    });
    return wrong.length === 0 || wrong.join(' ');
  },
  'lists the vaults': async (client) => {
    const listed = (await client.vaults.list()).map((vault) => [vault.id, vault.title, vault.contentVersion]);
    return same(listed.sort(), documents.map((vault) => [vault.id, vault.name, vault.contentVersion]).sort());
  },
  'lists items': async (client) => {
    for (const vault of documents) {
      const listed = (await client.items.list(vault.id)).map((item) => `${item.id} ${item.title}`);
      const held = vault.items.filter((item) => !item.state).map((item) => `${item.id} ${item.title}`);
      if (!held.every((item) => listed.includes(item))) return `${vault.name} has ${listed}`;
    }
    return true;
  },
  'gets items': async (client) => {
    const item = await client.items.get(MINE, 'itemmultiaaaaaaaaaaaaaaaaa');
    const values = item.fields.map((field) => [field.sectionId, field.title, field.value]);
    return item.notes === 'my note' && same(values, [
      ['Section_1', 'token', 'prodtok'], ['Section_2', 'token', 'devtok'],
      ['Section_3', 'lone', 'loneval'], ['Section_4', 'other', 'prod2other'],
    ]);
  },
  'reads files': async (client) => {
    const item = await client.items.get(MINE, 'itemdocumentaaaaaaaaaaaaaa');
    const { attributes } = item.files.find((file) => file.attributes.name === 'binary.bin');
    const content = await client.items.files.read(MINE, item.id, attributes);
    return item.document.name === 'readme.txt' && same([...content], [...Array(256).keys()]);
  },
  'sees changes': async (client) => {
    const version = async () => (await client.vaults.list()).find((vault) => vault.id === MINE).contentVersion;
    const before = await version();
    await steer('edit', { op: 'set', vault: MINE, item: DB, field: 'password', value: 'changed' });
    const after = await version();
    const value = await client.secrets.resolve('op://My Vault/db/password');
    await steer('reset', null);
    return same([before + 1, 'changed'], [after, value]);
  },
  'is told of limits': async (client) => {
    await steer('faults', { path: '/api/v1/vaults', do: { status: { code: 429, retryAfter: '1', message: null } } });
    const error = await client.vaults.list().then(() => null, (error) => error);
    await steer('faults', null, 'DELETE');
    return error instanceof RateLimitExceededError;
  },
  'distrusts a service without the verifier': async () => {
    await steer('faults', { path: '/api/v2/auth/confirm-key', do: 'wrong-signature' });
    const { error } = await outcome(connect());
    await steer('faults', null, 'DELETE');
    return error?.includes('Server hash was invalid') || `${error}`;
  },
};
for (const vector of vectors) checks[vector.join(' ')] = (client) => resolves(client, ...vector);

(async () => {
  const client = await connect();
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    const verdict = await Promise.resolve(client).then(check).catch(message);
    if (verdict === true) continue;
    failed += 1;
    console.log(`FAILED ${name}: ${verdict}`);
  }
  console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
})();
