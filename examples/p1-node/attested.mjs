// Attested TLS with carrier p1 over Node's own TLS, without ECH: the listener must say p1_without_ech.

import { randomBytes, createHash } from 'node:crypto';
import { once } from 'node:events';
import tls from 'node:tls';
import { appraise, exporterContext, exporterLabel, maxEvidence, Refusal, requestDigest } from './evidence.mjs';

const suites = { TLS_AES_128_GCM_SHA256: 0x1301, TLS_AES_256_GCM_SHA384: 0x1302, TLS_CHACHA20_POLY1305_SHA256: 0x1303 };

/**
 * Connects to a broker and returns {socket, reader, claims} once its evidence has been accepted. Nothing has been written
 * to the socket before, and nothing of the application been read. It throws a Refusal if the broker is not who it should be.
 */
export async function connect({ host, port, service, ca, want, timeout = 15000 }) {
  const nonce = randomBytes(32);
  const socket = tls.connect({
    host, port, servername: `${base32(nonce)}.p1.${service}`, ca, minVersion: 'TLSv1.3', ALPNProtocols: ['mqtt'], timeout,
  });
  socket.on('timeout', () => socket.destroy(new Error('the broker is silent')));
  try {
    await once(socket, 'secureConnect');
    const reader = new Reader(socket);
    const evidence = await readFrame(reader);
    const claims = appraise(evidence, bindingOf(socket, nonce, service), want);
    socket.write(Buffer.alloc(4)); // the frame of a client that does not attest
    return { socket, reader, claims };
  } catch (err) {
    socket.destroy();
    throw err;
  }
}

/** What this side knows of the connection. */
function bindingOf(socket, nonce, service) {
  const suite = suites[socket.getCipher().standardName];
  if (socket.getProtocol() !== 'TLSv1.3' || suite === undefined || socket.isSessionReused()) {
    throw new Refusal('the connection is not a fresh one of TLS 1.3');
  }
  const spki = socket.getPeerX509Certificate().publicKey.export({ type: 'spki', format: 'der' });
  return {
    nonce, service,
    binder: socket.exportKeyingMaterial(32, exporterLabel, exporterContext(nonce)),
    serverKey: createHash('sha384').update(spki).digest(), clientKey: null,
    request: requestDigest('p1', socket.alpnProtocol || '', 0x0304, suite),
  };
}

async function readFrame(reader) {
  const length = (await reader.exactly(4)).readUInt32BE();
  if (length === 0) throw new Refusal('the broker sent no evidence: its log says why');
  if (length > maxEvidence) throw new Refusal(`evidence of ${length} bytes is too large`);
  return reader.exactly(length);
}

/** Reader reads a socket in pieces of known size. */
class Reader {
  #socket;
  #ended = false;
  #wake = () => {};

  constructor(socket) {
    this.#socket = socket;
    const end = () => { this.#ended = true; this.#wake(); };
    socket.on('readable', () => this.#wake()).on('end', end).on('close', end).on('error', end);
  }

  async exactly(n) {
    if (n === 0) return Buffer.alloc(0);
    for (;;) {
      const bytes = this.#socket.read(n);
      if (bytes?.length === n) return bytes;
      if (bytes || this.#ended) throw this.#socket.errored ?? new Refusal('the broker closed the connection');
      await new Promise((resolve) => { this.#wake = resolve; });
    }
  }
}

/** Base32 of RFC 4648, in lower case and without padding. */
export function base32(bytes) {
  const alphabet = 'abcdefghijklmnopqrstuvwxyz234567';
  let [text, bits, value] = ['', 0, 0];
  for (const byte of bytes) {
    value = (value & 31) << 8 | byte;
    for (bits += 8; bits >= 5; bits -= 5) text += alphabet[value >> bits - 5 & 31];
  }
  return bits > 0 ? text + alphabet[value << 5 - bits & 31] : text;
}
