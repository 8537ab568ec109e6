// A client on MQTT.js, which tests tell what to do. Commands and events are those of client.py beside this file.
//
//     NODE_PATH=build/mqttjs/node_modules node client.cjs --url wss://localhost:9001/mqtt --version 5 --ca owner-ca.pem
'use strict'

const fs = require('node:fs')
const readline = require('node:readline')
const { parseArgs } = require('node:util')
const mqtt = require('mqtt')

const { values: options } = parseArgs({
  options: { url: { type: 'string' }, version: { type: 'string', default: '5' }, ca: { type: 'string' } },
})
const v5 = options.version === '5'
const connections = new Map()

const say = (conn, event, more) => console.log(JSON.stringify({ conn, event, ...more }))

// MQTT.js has user properties as an object: the pairs are sorted by name.
function userObject(pairs) {
  const user = {}
  for (const [name, value] of pairs) user[name] = [...(user[name] ?? []), value]
  return user
}

const userPairs = (user) => Object.entries(user).flatMap(([name, values]) => [values].flat().map((value) => [name, value]))

function propertiesOf(message) {
  if (!v5) return undefined
  const properties = {}
  if (message.content_type) properties.contentType = message.content_type
  if (message.response_topic) properties.responseTopic = message.response_topic
  if (message.correlation) properties.correlationData = Buffer.from(message.correlation, 'base64')
  if (message.user) properties.userProperties = userObject(message.user)
  if (message.expiry) properties.messageExpiryInterval = message.expiry
  if (message.alias) properties.topicAlias = message.alias
  return properties
}

function messageOf(topic, payload, packet) {
  const p = packet.properties ?? {}
  return {
    topic,
    payload: payload.toString('base64'),
    qos: packet.qos,
    retain: packet.retain,
    content_type: p.contentType,
    response_topic: p.responseTopic,
    correlation: p.correlationData?.toString('base64'),
    user: p.userProperties && userPairs(p.userProperties),
    expiry: p.messageExpiryInterval,
    alias: p.topicAlias,
    identifiers: p.subscriptionIdentifier && [p.subscriptionIdentifier].flat(),
  }
}

function connect({ conn, id, clean, expiry, will, aliases }) {
  const client = mqtt.connect(options.url, {
    clientId: id,
    clean,
    protocolVersion: { 3.1: 3, '3.1.1': 4, 5: 5 }[options.version],
    protocolId: options.version === '3.1' ? 'MQIsdp' : 'MQTT',
    ca: options.ca && fs.readFileSync(options.ca),
    reconnectPeriod: 0,
    properties: v5 ? { sessionExpiryInterval: expiry ?? 0, topicAliasMaximum: aliases ?? 0 } : undefined,
    will: will && { ...will, payload: Buffer.from(will.payload, 'base64'), properties: propertiesOf(will) },
  })
  connections.set(conn, client)
  client.on('connect', (ack) => say(conn, 'connected', { present: ack.sessionPresent, reason: ack.reasonCode ?? ack.returnCode }))
  client.on('message', (topic, payload, packet) => say(conn, 'message', { message: messageOf(topic, payload, packet) }))
  client.on('packetreceive', ({ cmd, reasonCode }) => cmd === 'puback' && acknowledged.set(conn, reasonCode ?? 0))
  client.on('error', (error) => say(conn, 'failed', { error: String(error) }))
  client.on('close', () => say(conn, 'ended'))
}

function subscribe({ conn, filter, qos, identifier }) {
  const properties = v5 && identifier ? { subscriptionIdentifier: identifier } : undefined
  connections.get(conn).subscribe(filter, { qos, properties }, (error, granted, packet) => {
    const reason = packet?.granted?.[0] ?? granted?.[0]?.qos ?? error?.code
    say(conn, 'subscribed', { reason })
  })
}

// What MQTT.js hands to a callback of publish is the message itself, so the reason code comes from the acknowledgement.
const acknowledged = new Map()

function publish({ conn, message }) {
  const { topic, payload, qos, retain } = message
  const properties = propertiesOf(message)
  acknowledged.set(conn, 0)
  connections.get(conn).publish(topic, Buffer.from(payload, 'base64'), { qos, retain, properties }, (error) => {
    // A refusal is an error here, with its reason code.
    say(conn, 'published', { reason: error?.code ?? acknowledged.get(conn) })
  })
}

const disconnect = ({ conn }) => connections.get(conn).end()

const drop = ({ conn }) => connections.get(conn).stream.destroy()

const doings = { connect, subscribe, publish, disconnect, drop }

const lines = readline.createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const command = JSON.parse(line)
  doings[command.do](command)
})
lines.on('close', () => process.exit(0))
