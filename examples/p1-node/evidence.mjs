// Verifies evidence of a VouchMQ broker, after docs/attested-tls.md, whose section numbers stand below. Of platforms it
// knows the simulated one, which protects nothing: this shows the format. A client for real use would put the verifier of
// its hardware in the place of simQuote.

import { createHash, createPublicKey, timingSafeEqual, verify as verifySignature } from 'node:crypto';
import { decode, encode } from './cbor.mjs';

export const exporterLabel = 'EXPERIMENTAL-vouchmq-attest-v1';
export const maxEvidence = 49148;
const profile = 'tag:vouchmq.dev,2026:atls/1';

/** Refusal says why a broker is not who it should be. */
export class Refusal extends Error {}

function demand(condition, reason) {
  if (!condition) throw new Refusal(reason);
}

const sha = (name, ...parts) => createHash(name).update(Buffer.concat(parts)).digest();
const u64 = (n) => { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(n)); return b; };

/** Section 5, binding: the context of the TLS exporter for evidence of the server at connect. */
export function exporterContext(nonce) {
  return sha('sha256', encode([1, 1, 1, 0, nonce, Buffer.alloc(0)]));
}

/** Section 5, claims: what the request parameters hash to. */
export function requestDigest(carrier, alpn, version, suite) {
  return sha('sha384', encode([1, carrier, alpn, version, suite]));
}

/** Section 5, report data: the leaf of a claims-set. */
export function leafHash(blind, claims) {
  return sha('sha512-256', Buffer.from([0]), blind, claims);
}

/** Section 5, report data: the root above leaf i of n (RFC 9162, section 2.1.3.2). */
export function treeRoot(leaf, i, n, path) {
  demand(n >= 1 && n <= 1024 && i >= 0 && i < n && path.length <= 10, 'batch proof is out of range');
  let [fn, sn, r] = [i, n - 1, leaf];
  for (const sibling of path) {
    demand(sn !== 0 && sibling.length === 32, 'batch proof has a wrong path');
    if (fn % 2 === 1 || fn === sn) {
      r = sha('sha512-256', Buffer.from([1]), sibling, r);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [fn >> 1, sn >> 1];
    } else {
      r = sha('sha512-256', Buffer.from([1]), r, sibling);
    }
    [fn, sn] = [fn >> 1, sn >> 1];
  }
  demand(sn === 0, 'batch proof has a path that is too short');
  return r;
}

/** Section 5, report data: what hardware signs for a connection (kind 1). */
export function reportData(n, root) {
  return sha('sha512', Buffer.from('vouchmq/report-data/v1\0'), Buffer.from([1]), u64(n), root);
}

/** Section 5, report data: the shorter form, for a TPM. */
export function shortReportData(rd64) {
  return sha('sha256', Buffer.from('vouchmq/report-data-32/v1\0'), rd64);
}

/**
 * Section 6: appraises evidence. own is what this side knows of the connection: nonce, binder, serverKey and clientKey
 * (SHA-384 of SubjectPublicKeyInfo, or null), service and request. want is the policy: module and simKey, SHA-384 each. It
 * returns the claims, or throws a Refusal.
 */
export function appraise(evidence, own, want) {
  const parts = collection(decodeOr('evidence', evidence));
  const claims = decodeOr('claims-set', parts.claims);
  const batch = decodeOr('batch proof', parts.batch);
  demand(claims instanceof Map && batch instanceof Map, 'evidence has an unexpected form');
  // All but what only the broker can know is computed here; the broker's bytes must be the same.
  demand(expectedClaims(own, claims).equals(parts.claims), difference(own, claims));
  demand([-70007, -70008, -70009].every((k) => isBytes(claims.get(k), 48)), 'a digest is not 48 bytes long');
  const blind = batch.get('blind');
  demand(isBytes(blind, 16) && Array.isArray(batch.get('path')), 'batch proof has an unexpected form');
  const n = batch.get('n');
  const root = treeRoot(leafHash(blind, parts.claims), batch.get('i'), n, batch.get('path'));
  simQuote(parts.quote, reportData(n, root), want.simKey);
  demand(claims.get(-70007).equals(want.module), `module sha384:${claims.get(-70007).toString('hex')} is not the accepted one`);
  return claims;
}

function decodeOr(what, bytes) {
  try {
    return decode(bytes);
  } catch (err) {
    throw new Refusal(`${what}: ${err.message}`);
  }
}

const isBytes = (value, size) => Buffer.isBuffer(value) && value.length === size;

function collection(map) {
  demand(map instanceof Map && map.get('__cmwc_t') === profile, 'evidence is of another profile');
  const part = (key, type) => {
    const record = map.get(key);
    demand(Array.isArray(record) && record.length === 3 && record[0] === type && Buffer.isBuffer(record[1]) && record[2] === 4,
      `evidence has no part "${key}" of type ${type}`);
    return record[1];
  };
  return {
    claims: part('c', 'application/eat-ucs+cbor'),
    quote: part('q', 'application/vnd.vouchmq.sim+cbor'),
    batch: part('m', 'application/vnd.vouchmq.batch+cbor'),
  };
}

/** The claims-set that the broker must have signed, of what this side knows and of what only the broker can say. */
export function expectedClaims(own, peer) {
  return encode(new Map([
    [10, [own.nonce, own.binder]], [265, profile], [6, peer.get(6)],
    [-70001, 1], [-70002, 1], [-70003, 0],
    [-70004, own.serverKey], [-70005, own.clientKey], [-70006, own.service],
    [-70007, peer.get(-70007)], [-70008, peer.get(-70008)], [-70009, peer.get(-70009)], [-70010, peer.get(-70010)],
    [-70011, own.request], [-70012, null],
  ].filter(([, value]) => value !== undefined)));
}

/** Says in which field the claims are not those of this connection. */
function difference(own, claims) {
  const [nonce, binder] = Array.isArray(claims.get(10)) ? claims.get(10) : [];
  const same = (a, b) => a === b || Buffer.isBuffer(a) && Buffer.isBuffer(b) && a.equals(b);
  if (claims.get(-70001) !== 1) return 'evidence speaks for the client: it was reflected';
  if (!same(nonce, own.nonce)) return 'evidence answers another nonce: it is a replay';
  if (!same(binder, own.binder)) return 'evidence was made for another TLS connection: somebody relays or replays it';
  if (!same(claims.get(-70004), own.serverKey)) return 'evidence is for another TLS key than that of the certificate';
  if (!same(claims.get(-70005), own.clientKey)) return 'the broker saw another key of this client: somebody is in the middle';
  return 'claims-set is not that of this connection';
}

/** Section 5, the simulated platform: a COSE_Sign1 message (RFC 9052, section 4.2; ES256). */
function simQuote(quote, expected, wantKey) {
  const message = decodeOr('quote', quote);
  demand(message?.tag === 18 && Array.isArray(message.value) && message.value.length === 4, 'quote is no COSE_Sign1 message');
  const [header, unprotected, payload, signature] = message.value;
  demand(isBytes(header, 3) && header.equals(encode(new Map([[1, -7]]))) && unprotected instanceof Map && unprotected.size === 0,
    'quote has other headers than ES256');
  const body = decodeOr('quote', payload);
  demand(body instanceof Map && body.get(1) === 'tag:vouchmq.dev,2026:sim-INSECURE/1' && isBytes(body.get(2), 64) && Buffer.isBuffer(body.get(4)),
    'quote has an unexpected form');
  demand(sha('sha384', body.get(4)).equals(wantKey), 'quote is of another simulated TEE than the accepted one');
  const signed = encode(['Signature1', header, Buffer.from('vouchmq/sim-INSECURE/v1'), payload]);
  const key = { key: createPublicKey({ key: body.get(4), format: 'der', type: 'spki' }), dsaEncoding: 'ieee-p1363' };
  demand(isBytes(signature, 64) && verifySignature('sha256', signed, key, signature), 'signature of the quote is not valid');
  demand(!body.get(2).equals(Buffer.alloc(64)), 'report data is all zero: the quote vouches for nothing');
  demand(timingSafeEqual(body.get(2), expected), 'report data is not that of these claims: it was made for something else');
  demand(body.get(5) === false, 'the TEE is in debug mode');
  demand(body.get(6) === 'Simulated', `TCB status is ${body.get(6)}`);
  demand(body.get(8) === 0 || body.get(8) > Date.now() / 1000, 'collateral of the quote has expired');
}
