// CBOR in the deterministic encoding of RFC 8949, section 4.2.1: as much of it as evidence is made of. What is encoded
// otherwise is refused, so that what was read and what is hashed cannot differ.
//
// Byte strings are Buffers, maps are Maps, null is null, and a tag is {tag, value}. Numbers must be safe integers.

/** Encodes a value. */
export function encode(value) {
  if (value === null) return Buffer.from([0xf6]);
  if (value === false || value === true) return Buffer.from([value ? 0xf5 : 0xf4]);
  if (typeof value === 'number') return value >= 0 ? head(0, value) : head(1, -1 - value);
  if (typeof value === 'string') return prefixed(3, Buffer.from(value, 'utf8'));
  if (Buffer.isBuffer(value)) return prefixed(2, value);
  if (Array.isArray(value)) return Buffer.concat([head(4, value.length), ...value.map(encode)]);
  if (value instanceof Map) return encodeMap(value);
  if (value.tag !== undefined) return Buffer.concat([head(6, value.tag), encode(value.value)]);
  throw new Error('this value has no place in evidence');
}

function encodeMap(map) {
  const entries = [...map].map(([key, value]) => [encode(key), encode(value)]);
  entries.sort((a, b) => Buffer.compare(a[0], b[0]));
  return Buffer.concat([head(5, entries.length), ...entries.flat()]);
}

function prefixed(major, bytes) {
  return Buffer.concat([head(major, bytes.length), bytes]);
}

function head(major, n) {
  if (!Number.isSafeInteger(n) || n < 0) throw new Error('not a safe integer');
  if (n < 24) return Buffer.from([major << 5 | n]);
  const [code, size] = n < 2 ** 8 ? [24, 1] : n < 2 ** 16 ? [25, 2] : n < 2 ** 32 ? [26, 4] : [27, 8];
  const bytes = Buffer.alloc(1 + size);
  bytes[0] = major << 5 | code;
  if (size === 8) bytes.writeBigUInt64BE(BigInt(n), 1);
  else bytes.writeUIntBE(n, 1, size);
  return bytes;
}

/** Decodes exactly one value, and throws if encode would not write the same bytes. */
export function decode(bytes) {
  const reader = { bytes, at: 0 };
  const value = decodeNext(reader, 8);
  if (reader.at !== bytes.length) throw new Error('bytes follow the CBOR value');
  if (!encode(value).equals(bytes)) throw new Error('CBOR is not in its deterministic encoding');
  return value;
}

function decodeNext(reader, depth) {
  if (depth === 0) throw new Error('CBOR is nested too deeply');
  const first = take(reader, 1)[0];
  const major = first >> 5;
  if (major === 7) return decodeSimple(first);
  const n = decodeLength(reader, first & 31);
  switch (major) {
    case 0: return n;
    case 1: return -1 - n;
    case 2: return take(reader, n);
    case 3: return take(reader, n).toString('utf8');
    case 4: return repeat(reader, n, () => decodeNext(reader, depth - 1));
    case 5: return new Map(repeat(reader, n, () => [decodeNext(reader, depth - 1), decodeNext(reader, depth - 1)]));
    default: return { tag: n, value: decodeNext(reader, depth - 1) };
  }
}

function repeat(reader, n, next) {
  if (n > reader.bytes.length - reader.at) throw new Error('CBOR is cut short');
  return Array.from({ length: n }, next);
}

function decodeSimple(first) {
  const values = { 0xf4: false, 0xf5: true, 0xf6: null };
  if (!(first in values)) throw new Error('CBOR holds what has no place in evidence');
  return values[first];
}

function decodeLength(reader, code) {
  if (code < 24) return code;
  if (code > 27) throw new Error('CBOR of indefinite length has no place in evidence');
  const size = 1 << code - 24;
  const bytes = take(reader, size);
  const n = size === 8 ? Number(bytes.readBigUInt64BE()) : bytes.readUIntBE(0, size);
  if (!Number.isSafeInteger(n)) throw new Error('not a safe integer');
  return n;
}

function take(reader, n) {
  if (n > reader.bytes.length - reader.at) throw new Error('CBOR is cut short');
  reader.at += n;
  return reader.bytes.subarray(reader.at - n, reader.at);
}
