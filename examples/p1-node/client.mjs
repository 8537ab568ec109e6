// An MQTT client that verifies its broker: it subscribes to a topic, publishes to it, and prints what comes back.
//
//   node client.mjs HOST PORT SERVICE OWNER-CA.pem MODULE SIM-KEY TOPIC MESSAGE
//
// MODULE and SIM-KEY are digests, sha384:..., as vouchmq inspect prints them. Exit status: 0 the message came back; 3 the
// broker was refused, and has got nothing; 1 anything else.

import { readFileSync } from 'node:fs';
import { connect } from './attested.mjs';
import { Refusal } from './evidence.mjs';

const [host, port, service, caFile, module, simKey, topic, message] = process.argv.slice(2);

try {
  if (message === undefined) throw new Error('usage: HOST PORT SERVICE OWNER-CA.pem MODULE SIM-KEY TOPIC MESSAGE');
  const want = { module: digest(module), simKey: digest(simKey) };
  const connection = await connect({ host, port: Number(port), service, ca: readFileSync(caFile), want });
  console.log(`accepted: module sha384:${connection.claims.get(-70007).toString('hex')}`);
  console.log(`received: ${await roundTrip(connection, topic, message)}`);
  connection.socket.end(packet(0xe0, Buffer.alloc(0))); // DISCONNECT
} catch (err) {
  console.error(err instanceof Refusal ? `refused: ${err.message}` : `failed: ${err.message}`);
  process.exitCode = err instanceof Refusal ? 3 : 1;
}

function digest(text) {
  if (!/^sha384:[0-9a-f]{96}$/.test(text)) throw new Error(`${text} is no digest: sha384: and 96 hexadecimal digits`);
  return Buffer.from(text.slice(7), 'hex');
}

/** Subscribes, publishes, and returns the payload that comes back (MQTT 5.0, chapter 3). */
async function roundTrip({ socket, reader }, topic, message) {
  const id = Buffer.from([0, 1]);
  const none = Buffer.from([0]); // properties
  socket.write(packet(0x10, text('MQTT'), Buffer.from([5, 2, 0, 60]), none, text('p1-node')));
  expect(await readPacket(reader), 0x20, (body) => body[1] === 0);
  socket.write(packet(0x82, id, none, text(topic), Buffer.from([1])));
  expect(await readPacket(reader), 0x90, (body) => body[body.length - 1] === 1);
  socket.write(packet(0x32, text(topic), id, none, Buffer.from(message)));
  for (;;) {
    const { type, body } = await readPacket(reader);
    if (type >> 4 !== 3) continue; // PUBACK may come first
    const start = 2 + body.readUInt16BE();
    socket.write(packet(0x40, body.subarray(start, start + 2)));
    return body.subarray(start + 2 + 1 + body[start + 2]).toString();
  }
}

function text(s) {
  const bytes = Buffer.from(s);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
}

function packet(type, ...parts) {
  const body = Buffer.concat(parts);
  const length = [];
  for (let n = body.length; ; n >>= 7) {
    length.push(n > 127 ? n & 127 | 128 : n);
    if (n <= 127) break;
  }
  return Buffer.concat([Buffer.from([type, ...length]), body]);
}

async function readPacket(reader) {
  const type = (await reader.exactly(1))[0];
  let length = 0;
  for (let shift = 0; shift < 28; shift += 7) {
    const byte = (await reader.exactly(1))[0];
    length |= (byte & 127) << shift;
    if (byte < 128) break;
  }
  return { type, body: await reader.exactly(length) };
}

function expect({ type, body }, wanted, good) {
  if (type !== wanted || !good(body)) throw new Error(`the broker answers with packet 0x${type.toString(16)}: ${body.toString('hex')}`);
}
