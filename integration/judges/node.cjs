// Judges a fake Connect server with @1password/connect: node.cjs URL TOKEN
const { OnePasswordConnect } = require('@1password/connect');

const [url, token] = process.argv.slice(2);
const connect = (token) => OnePasswordConnect({ serverURL: url, token, keepAlive: false });
const client = connect(token);
const VAULT = 'vaultmineaaaaaaaaaaaaaaaaa';
const DB = 'itemdbaaaaaaaaaaaaaaaaaaaa';
const NONE = 'a'.repeat(26);

const steer = (what, body) => fetch(`${url}/__fake/${what}`, { method: 'POST', body: JSON.stringify(body) });
const value = (item, label) => item.fields.find((field) => field.label === label).value;
const refused = async (asked, status, word) => {
  const error = await asked.then(() => ({}), (error) => error);
  return error.status === status && String(error.message).includes(word);
};

const checks = {
  'lists the vaults': async () => {
    const names = (await client.listVaults()).map((vault) => vault.name);
    return names.join() === 'My Vault,dup,dup,a.b_c-d,Ünï';
  },
  'lists vaults of a name': async () => (await client.listVaultsByTitle('dup')).length === 2,
  'finds a vault by its name': async () => (await client.getVault('My Vault')).id === VAULT,
  'finds a vault by its ID': async () => (await client.getVaultById(VAULT)).contentVersion === 1,
  'finds no vault by a name of other case': () => refused(client.getVault('my vault'), 404, 'No Vaults'),
  'finds two vaults of one name': () => refused(client.getVault('dup'), 400, 'multiple'),
  'lists items without their fields': async () => {
    const items = await client.listItems(VAULT);
    return items.length > 20 && items.some((item) => item.id === DB) && items.every((item) => !item.fields);
  },
  'lists items of a title': async () => (await client.listItemsByTitle(VAULT, 'twin')).length === 2,
  'lists items with a word in their title': async () => (await client.listItemsByTitleContains(VAULT, 'sshkey')).length === 3,
  'gets an item by ID': async () => value(await client.getItemById(VAULT, DB), 'password') === 'hunter2',
  'gets an item by title': async () => value(await client.getItem(VAULT, 'db'), 'username') === 'bob',
  'refuses two items of one title': () => refused(client.getItem(VAULT, 'twin'), 400, 'multiple'),
  'gets an OTP code': async () => /^\d{6}$/.test(await client.getItemOTP(VAULT, 'otp')),
  'gets fields of unknown types': async () => value(await client.getItem(VAULT, 'every'), 'a hologram') === 'not yet invented',
  'gets long values': async () => value(await client.getItem(VAULT, 'big'), 'value').length === 900 * 1024,
  'lists files': async () => {
    const names = (await client.listFiles('My Vault', 'document')).map((file) => file.name);
    return names.join() === 'readme.txt,tls.pem,binary.bin,empty';
  },
  'gets a file': async () => {
    const id = 'filereadmeaaaaaaaaaaaaaaaa';
    const file = await client.getFileById(VAULT, 'document', id);
    return file.size === 24 && (await client.getFileContent(VAULT, 'document', id)) === 'a document\nof two lines\n';
  },
  401: () => refused(connect('wrong').listVaults(), 401, 'Invalid token signature'),
  403: async () => {
    await steer('deny', { vault: VAULT });
    const verdict = await refused(client.getVaultById(VAULT), 403, 'not in scope');
    await steer('reset', null);
    return verdict;
  },
  '404 for an item': () => refused(client.getItemById(VAULT, NONE), 404, 'not found'),
  '404 for a vault': () => refused(client.getVaultById(NONE), 404, 'not found'),
};

(async () => {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    const verdict = await Promise.resolve().then(check).catch((error) => error);
    if (verdict === true) continue;
    failed += 1;
    console.log(`FAILED ${name}${verdict === false ? '' : `: ${verdict.message ?? JSON.stringify(verdict)}`}`);
  }
  console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
})();
