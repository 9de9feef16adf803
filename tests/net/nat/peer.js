'use strict'

// One peer of the reference implementation on a host of its own, driven by JSON lines.
//
//   node peer.js
//
// stdin   {"id": 1, "do": "connect", "key": HEX}
// stdout  {"id": 1, "ok": VALUE}  or  {"id": 1, "error": TEXT}

const path = require('path')
const readline = require('readline')
const { createRequire } = require('module')

const load = createRequire(path.join(__dirname, '..', '..', 'interop', 'peer.js'))
const DHT = load('hyperdht')

const LIFETIME = 600_000 // ms
let node = null
let relayThrough = null

const commands = {
  // A DHT of its own, one node for each host; the first is the bootstrap.
  async public({ hosts, port }) {
    const bootstrap = [{ host: hosts[0], port }]
    for (const host of hosts) {
      const first = host === hosts[0]
      const made = first
        ? DHT.bootstrapper(port, host, { host })
        : new DHT({ bootstrap, host, port, ephemeral: false, firewalled: false })
      await made.fullyBootstrapped()
    }
    return null
  },

  async start({ bootstrap, relay, options }) {
    if (relay) relayThrough = Buffer.from(relay, 'hex')
    const [host, port] = bootstrap.split(':')
    node = new DHT({ bootstrap: [{ host, port: Number(port) }], ...options })
    await node.fullyBootstrapped()
    return { firewalled: node.firewalled, host: node.host, port: node.port }
  },

  async listen({ options }) {
    const server = node.createServer({ relayThrough, ...options }, (socket) => {
      socket.on('error', () => {})
      socket.on('data', (data) => socket.write(data))
    })
    await server.listen()
    return { key: server.publicKey.toString('hex'), relays: server.relayAddresses }
  },

  // A blind relay for anybody.
  async relay() {
    const blindRelay = load('blind-relay')
    const relay = new blindRelay.Server({
      createStream: (options) => node.createRawStream({ ...options, framed: true })
    })
    const server = node.createServer((socket) => {
      socket.on('error', () => {})
      relay.accept(socket, { id: socket.remotePublicKey }).on('error', () => {})
    })
    await server.listen()
    return { key: server.publicKey.toString('hex') }
  },

  async connect({ key, options }) {
    const started = Date.now()
    const socket = node.connect(Buffer.from(key, 'hex'), { relayThrough, ...options })
    await new Promise((resolve, reject) => {
      socket.on('error', reject)
      socket.on('close', () => reject(new Error('closed')))
      socket.on('open', resolve)
    })
    const { remoteHost, remotePort } = socket.rawStream
    const seconds = (Date.now() - started) / 1000
    socket.destroy()
    return { seconds, remote: `${remoteHost}:${remotePort}`, punches: node.stats.punches }
  }
}

function answer(message) {
  process.stdout.write(JSON.stringify(message) + '\n')
}

setTimeout(() => process.exit(0), LIFETIME).unref()
readline
  .createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const { id, do: name, ...members } = JSON.parse(line)
    try {
      answer({ id, ok: (await commands[name](members)) ?? null })
    } catch (error) {
      answer({ id, error: error.code || String(error.message || error) })
    }
  })
  .on('close', () => process.exit(0))
