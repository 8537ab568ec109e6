// Compares the worked example of docs/attested-tls.md with what this client computes, and changes each byte of its evidence.
//
//   node example.mjs [PAGE]

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { base32 } from './attested.mjs';
import { appraise, expectedClaims, exporterContext, leafHash, Refusal, reportData, requestDigest, shortReportData, treeRoot } from './evidence.mjs';

const page = readFileSync(process.argv[2] ?? new URL('../../docs/attested-tls.md', import.meta.url), 'utf8');
const text = page.split('```text example\n')[1].split('```')[0].replaceAll('\n   ', '');
const shown = Object.fromEntries(text.trim().split('\n').map((line) => line.split(' = ')));
const value = (name) => Buffer.from(shown[name].replaceAll(' ', ''), 'hex');
const sha384 = (bytes) => createHash('sha384').update(bytes).digest();
const count = (first) => Buffer.from(Array.from({ length: 32 }, (_, i) => first + i));

let wrong = 0;
function compare(name, computed) {
  if (computed.equals(value(name))) return;
  wrong++;
  console.error(`${name} is ${computed.toString('hex')} here, and there ${shown[name]}`);
}

/** Evidence with any bit changed must be refused, and in a regular way. */
function refuses(i, bit) {
  const changed = Buffer.from(evidence);
  changed[i] ^= bit;
  try {
    appraise(changed, own, want);
  } catch (err) {
    if (err instanceof Refusal) return;
    console.error(err);
  }
  wrong++;
  console.error(`evidence with byte ${i} changed is not refused`);
}

const own = {
  nonce: value('nonce'), binder: value('binder'), serverKey: sha384(value('server_spki')), clientKey: null,
  service: 'plant.example', request: requestDigest('p1', 'mqtt', 0x0304, 0x1301),
};
const said = new Map([
  [6, 1800000000], [-70007, sha384('module')], [-70008, sha384('configuration')], [-70009, sha384('runtime')], [-70010, 'broker-1'],
]);
const name = `${base32(own.nonce)}.p1.${own.service}`;
compare('context', exporterContext(own.nonce));
compare('request', own.request);
const claims = expectedClaims(own, said);
compare('claims', claims);
const leaf = leafHash(value('blind'), claims);
compare('leaf', leaf);
const rd64 = reportData(1, treeRoot(leaf, 0, 1, []));
compare('rd64', rd64);
compare('rd32', shortReportData(rd64));
const root = treeRoot(leaf, 1, 3, [count(0x80), count(0xa0)]);
compare('root_1_of_3', root);
compare('rd64_1_of_3', reportData(3, root));
const frame = value('frame');
const evidence = frame.subarray(4, 4 + frame.readUInt32BE());
const want = { module: said.get(-70007), simKey: value('sim_key') };
appraise(evidence, own, want);
for (let i = 0; i < evidence.length; i++) refuses(i, 1 << i % 8);
if (shown.server_name !== name) {
  wrong++;
  console.error(`server_name is ${name} here, and there ${shown.server_name}`);
}
if (wrong > 0) process.exit(1);
console.log('all values agree; the evidence is accepted, and refused with any byte changed');
