'use strict'

// HyperDHT nodes of the reference implementation, driven by JSON lines, on 127.0.0.1 only.
//
//   node peer.js
//
// stdin   {"id": 1, "do": "lookup", "node": 0, "topic": HEX}
// stdout  {"id": 1, "ok": VALUE}  or  {"id": 1, "error": TEXT}
//
// Bytes are hex. A node is named by the number that "node" returned. The process ends when stdin closes, or
// after its lifetime.

const path = require('path')
const readline = require('readline')
const { createRequire } = require('module')

const load = createRequire(path.join(__dirname, '..', '..', 'interop', 'peer.js'))
const DHT = load('hyperdht')
const Holepuncher = load('hyperdht/lib/holepuncher')
const createTestnet = load('hyperdht/testnet')

const HOST = '127.0.0.1'
const LIFETIME = 120_000 // ms

const testnets = []
const nodes = []
const servers = []
const connections = [] // keys of the clients, in the order they came

const hex = (buffer) => (buffer ? buffer.toString('hex') : null)
const bytes = (text) => Buffer.from(text, 'hex')

const commands = {
  async testnet({ size }) {
    const testnet = await createTestnet(size)
    testnets.push(testnet)
    return testnet.bootstrap[0].port
  },

  async node({ bootstrap, options }) {
    const node = new DHT({ host: HOST, bootstrap: [{ host: HOST, port: bootstrap }], ...options })
    await node.fullyBootstrapped()
    return nodes.push(node) - 1
  },

  async state({ node }) {
    const { firewalled, ephemeral, host, port, id } = nodes[node]
    return { firewalled, ephemeral, host, port, id: hex(id), nodes: nodes[node].toArray().length }
  },

  async becomePersistent({ node }) {
    return nodes[node]._updateNetworkState()
  },

  async ping({ node, port }) {
    const reply = await nodes[node].ping({ host: HOST, port })
    return { to: reply.to, from: { ...reply.from, id: hex(reply.from.id) } }
  },

  async announce({ node, topic, seed, relays }) {
    const query = nodes[node].announce(bytes(topic), DHT.keyPair(bytes(seed)), relays || [])
    await query.finished()
    return query.closestNodes.length
  },

  async unannounce({ node, topic, seed }) {
    await nodes[node].unannounce(bytes(topic), DHT.keyPair(bytes(seed)))
    return null
  },

  async lookup({ node, topic }) {
    const found = {}
    for await (const { peers } of nodes[node].lookup(bytes(topic))) {
      for (const { publicKey, relayAddresses } of peers) found[hex(publicKey)] = relayAddresses
    }
    return found
  },

  async findPeer({ node, key }) {
    const query = nodes[node].findPeer(bytes(key))
    const relays = []
    for await (const { from } of query) relays.push(from.port)
    return relays
  },

  async listen({ node, seed, options, through }) {
    const relayed = through ? { relayThrough: bytes(through) } : {}
    const server = nodes[node].createServer({ ...options, ...relayed }, (socket) => {
      socket.on('error', () => {})
      socket.on('data', (data) => socket.write(data))
      connections.push(hex(socket.remotePublicKey))
    })
    await server.listen(DHT.keyPair(bytes(seed)))
    servers.push(server)
    return server.relayAddresses
  },

  async connect({ node, key, options }) {
    const socket = nodes[node].connect(bytes(key), options)
    socket.on('error', () => {}) // opened is rejected then
    await socket.opened
    socket.destroy()
    return hex(socket.remotePublicKey)
  },

  // A blind relay for anybody.
  async relay({ node, seed }) {
    const { Server } = load('blind-relay')
    const relay = new Server({
      createStream: (options) => nodes[node].createRawStream({ ...options, framed: true })
    })
    const server = nodes[node].createServer((socket) => {
      socket.on('error', () => {})
      relay.accept(socket, { id: socket.remotePublicKey }).on('error', () => {})
    })
    await server.listen(DHT.keyPair(bytes(seed)))
    servers.push(server)
    return null
  },

  async connections() {
    return connections
  },

  // What the peer answers to a text, and the milliseconds it took from dialling.
  // It offers to meet at the blind relay "through", and then wants no hole and sees none.
  async ask({ node, key, seed, text, options, through }) {
    const start = Date.now()
    const keyPair = seed ? DHT.keyPair(bytes(seed)) : undefined
    if (through) Holepuncher.prototype._onholepunchmessage = () => {}
    const never = { holepunch: () => false, fastOpen: false }
    const relayed = through ? { ...never, relayThrough: bytes(through) } : {}
    const socket = nodes[node].connect(bytes(key), { ...options, ...relayed, keyPair })
    socket.write(text)
    const data = await new Promise((resolve, reject) => {
      socket.on('error', reject)
      socket.once('data', resolve)
      socket.once('close', () => reject(new Error('closed')))
    })
    socket.destroy()
    return { text: data.toString(), ms: Date.now() - start }
  },

  async immutablePut({ node, value }) {
    return hex((await nodes[node].immutablePut(bytes(value))).hash)
  },

  async immutableGet({ node, target }) {
    const found = await nodes[node].immutableGet(bytes(target))
    return found && hex(found.value)
  },

  async mutablePut({ node, seed, value, seq }) {
    await nodes[node].mutablePut(DHT.keyPair(bytes(seed)), bytes(value), { seq })
    return null
  },

  async mutableGet({ node, key }) {
    const found = await nodes[node].mutableGet(bytes(key))
    return found && { seq: found.seq, value: hex(found.value) }
  }
}

async function close() {
  setTimeout(() => process.exit(0), 3000).unref()
  for (const server of servers) await server.close()
  for (const node of nodes) await node.destroy()
  for (const testnet of testnets) await testnet.destroy()
  process.exit(0)
}

function answer(message) {
  process.stdout.write(JSON.stringify(message) + '\n')
}

setTimeout(close, LIFETIME).unref()
readline
  .createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const { id, do: name, ...members } = JSON.parse(line)
    try {
      answer({ id, ok: (await commands[name](members)) ?? null })
    } catch (error) {
      answer({ id, error: String(error.stack || error) })
    }
  })
  .on('close', close)
