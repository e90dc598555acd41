// Prints the OpenAPI description of Connect, corrected where the real server is known to differ from it.
import { readFileSync } from 'node:fs';

const spec = JSON.parse(readFileSync(process.argv[2], 'utf8'));

// Paths without a server of their own are below /v1, the health checks are not: so one proxy can judge both.
delete spec.servers;
spec.paths = Object.fromEntries(Object.entries(spec.paths).map(([path, methods]) => {
  const atRoot = Object.values(methods).some((method) => method.servers);
  Object.values(methods).forEach((method) => delete method.servers);
  return [atRoot ? path : `/v1${path}`, methods];
}));

// IDs of vaults, items and files are 26 characters in every path; the files' paths call them UUIDs.
const id = { type: 'string', pattern: '^[\\da-z]{26}$' };
for (const methods of Object.values(spec.paths)) {
  for (const at of [methods, ...Object.values(methods)]) {
    for (const parameter of at.parameters ?? []) {
      if (parameter.in === 'path') parameter.schema = id;
    }
  }
}

// Servers send types of fields (OTP, SSHKEY, ADDRESS, …) and categories of items that the lists lack.
const { Field, Item } = spec.components.schemas;
delete Field.properties.type.enum;
delete Item.properties.category.enum;

// An OTP field carries its code.
Field.properties.totp = { type: 'string' };

// Nothing that is not described may be sent: a misspelt key would pass otherwise. (An item is described by two schemas together,
// which cannot be closed.)
for (const name of ['Vault', 'Field', 'File', 'ErrorResponse']) spec.components.schemas[name].additionalProperties = false;

process.stdout.write(JSON.stringify(spec));
