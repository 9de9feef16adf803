'use strict'

// A Hypercore peer made of the reference implementation, driven by JSON lines.
//
//   node peer.js --storage DIR [--primary-key HEX] [--lifetime SECONDS]
//
// stdin   one command per line:  {"id": 1, "do": "put", "drive": KEY, "path": "/a", "data": BASE64}
// stdout  one answer per command, in the order of completion:
//           {"id": 1, "ok": VALUE}  or  {"id": 1, "error": {"code": "…", "message": "…"}}
//         and events, which have no id:  {"event": "ready", …}
// stderr  only what goes wrong in this process.
//
// Commands run side by side, so one may wait while others are sent.  Keys are hex, bytes are base64,
// block ranges are half open, points in time are milliseconds since 1970 with a fraction.
// Sockets are opened on 127.0.0.1 only.  The process ends when stdin closes or its lifetime is over.

const crypto = require('crypto')
const fs = require('fs')
const net = require('net')
const readline = require('readline')
const { parseArgs } = require('util')
const { performance } = require('perf_hooks')

const Corestore = require('corestore')
const DHT = require('hyperdht')
const Hyperbee = require('hyperbee')
const Hyperblobs = require('hyperblobs')
const Hypercore = require('hypercore')
const hypercoreCrypto = require('hypercore-crypto')
const Hyperdrive = require('hyperdrive')
const Hyperswarm = require('hyperswarm')
const Localdrive = require('localdrive')
const createTestnet = require('hyperdht/testnet')
const { defaultSignerManifest } = require('hypercore/lib/verifier')

const HOST = '127.0.0.1'
const DEFAULT_LIFETIME = 15 * 60 // seconds
const SHUTDOWN_TIME = 5000 // ms for closing everything in order, then we just go
const POOL_SIZE = 16 * 1024 * 1024 // bytes of random data that benchmark blocks are cut from

const { values: args } = parseArgs({
  options: {
    storage: { type: 'string' },
    'primary-key': { type: 'string' },
    lifetime: { type: 'string', default: String(DEFAULT_LIFETIME) }
  }
})
if (!args.storage) fail('--storage DIR is missing')

const primaryKey = args['primary-key'] ? Buffer.from(args['primary-key'], 'hex') : null
const store = new Corestore(args.storage, primaryKey ? { primaryKey, unsafe: true } : {})
const cores = new Map() // hex key -> Hypercore session
const bees = new Map() // hex key -> Hyperbee
const drives = new Map() // hex key -> Hyperdrive
const servers = new Map() // port -> net.Server
const sockets = new Set()
const testnets = []
let swarm = null
let closing = false

// ---------------------------------------------------------------------------------------- commands

const commands = {
  // -- cores

  // One of: name (writable, derived from the primary key), key (anybody's), seed + compat (the key is
  // the public key, no manifest), manifest (signers as {publicKey, namespace}; hex) + seed.
  async openCore({ name, key, seed, compat = false, manifest }) {
    let core = null
    if (compat) core = await openCompatCore(keyPairOf(seed))
    else if (manifest) core = store.get({ manifest: decodeManifest(manifest), keyPair: keyPairOf(seed) })
    else if (seed) core = store.get({ keyPair: keyPairOf(seed) })
    else core = store.get(key ? { key: hex(key) } : { name })
    await core.ready()
    cores.set(core.key.toString('hex'), core)
    return describeCore(core)
  },

  async coreInfo({ core }) {
    return describeCore(getCore(core))
  },

  async append({ core, blocks }) {
    await getCore(core).append(blocks.map(base64))
    return describeCore(getCore(core))
  },

  // A bee on an open core, as made without options; `sub` names a sub-database.
  async beePut({ core, sub, key, value }) {
    const bee = bees.get(core) || new Hyperbee(getCore(core))
    bees.set(core, bee)
    await (sub ? bee.sub(sub) : bee).put(key, value)
    return describeCore(getCore(core))
  },

  async blobPut({ core, data }) {
    return new Hyperblobs(getCore(core)).put(base64(data))
  },

  async truncate({ core, length, fork }) {
    const options = fork === undefined ? {} : { fork }
    await getCore(core).truncate(length, options)
    return describeCore(getCore(core))
  },

  async get({ core, index, wait = true, timeout = 0 }) {
    const block = await getCore(core).get(index, { wait, timeout })
    return block === null ? null : { data: block.toString('base64') }
  },

  async seek({ core, byteOffset, timeout = 0 }) {
    const found = await getCore(core).seek(byteOffset, { timeout })
    return found === null ? null : { index: found[0], offset: found[1] }
  },

  // The blocks [start, stop) are wanted until they are here; stop null means the length of now.
  async download({ core, start = 0, stop = null }) {
    const session = getCore(core)
    await session.download({ start, end: stop === null ? session.length : stop }).done()
    return describeCore(session)
  },

  async held({ core, start = 0, stop = null }) {
    return heldRanges(getCore(core), start, stop)
  },

  async clear({ core, start, stop }) {
    await getCore(core).clear(start, stop)
    return describeCore(getCore(core))
  },

  // Ask the peers for a newer head; false when there is none.
  async update({ core }) {
    const session = getCore(core)
    const upgraded = await session.update({ wait: true })
    return { upgraded, ...(await describeCore(session)) }
  },

  // Wait until the length reaches `length` (and the fork `fork`); says when it did.
  async waitLength({ core, length, fork = 0 }) {
    const session = getCore(core)
    const at = await new Promise((resolve) => {
      const check = () => {
        if (session.length < length || session.fork < fork) return
        session.off('append', check)
        session.off('truncate', check)
        resolve(now())
      }
      session.on('append', check)
      session.on('truncate', check)
      check()
    })
    return { at, ...(await describeCore(session)) }
  },

  async coreStats({ core }) {
    const session = getCore(core)
    return { peers: session.peers.length, ...session.core.replicator.stats }
  },

  // -- drives

  async openDrive({ name, key }) {
    const drive = new Hyperdrive(name ? store.namespace(name) : store.session(), key ? hex(key) : null)
    await drive.ready()
    const id = drive.key.toString('hex')
    drives.set(id, drive)
    cores.set(id, drive.core)
    return describeDrive(drive)
  },

  async driveInfo({ drive }) {
    return describeDrive(getDrive(drive))
  },

  async updateDrive({ drive }) {
    const opened = getDrive(drive)
    const upgraded = await opened.update({ wait: true })
    return { upgraded, ...describeDrive(opened) }
  },

  // Wait until the blobs core is known (a reader learns it from the first block of the drive).
  async blobs({ drive }) {
    const blobs = await getDrive(drive).getBlobs()
    const id = blobs.core.key.toString('hex')
    cores.set(id, blobs.core)
    return describeCore(blobs.core)
  },

  // Bytes come from one of: data (base64), file (a path on this machine).
  async put({ drive, path, data, file, executable = false, metadata = null, dedup = false }) {
    const opened = getDrive(drive)
    if (file === undefined && !dedup) {
      await opened.put(path, base64(data), { executable, metadata })
    } else {
      const source = file === undefined ? [base64(data)] : fs.createReadStream(file, { highWaterMark: 65536 })
      await writeStream(opened.createWriteStream(path, { executable, metadata, dedup }), source)
    }
    return describeDrive(opened)
  },

  async del({ drive, path }) {
    await getDrive(drive).del(path)
    return describeDrive(getDrive(drive))
  },

  async symlink({ drive, path, target, metadata = null }) {
    await getDrive(drive).symlink(path, target, { metadata })
    return describeDrive(getDrive(drive))
  },

  // Operations: ["put", path, base64, metadata?], ["del", path], ["symlink", path, target].
  async batch({ drive, operations }) {
    const opened = getDrive(drive)
    const batch = opened.batch()
    for (const [kind, path, value, metadata = null] of operations) {
      if (kind === 'put') await batch.put(path, base64(value), { metadata })
      else if (kind === 'del') await batch.del(path)
      else if (kind === 'symlink') await batch.symlink(path, value)
      else throw new Error('unknown operation ' + kind)
    }
    await batch.flush()
    return describeDrive(opened)
  },

  async entry({ drive, path, version = 0, follow = false }) {
    return atVersion(drive, version, async (view) => describeEntry(await view.entry(path, { follow })))
  },

  async list({ drive, folder = '/', version = 0 }) {
    return atVersion(drive, version, async (view) => {
      const entries = []
      for await (const entry of view.list(folder)) entries.push(describeEntry(entry))
      return entries
    })
  },

  // The whole file as length and hash, and the bytes too when asked for.
  async read({ drive, path, version = 0, data = false }) {
    return atVersion(drive, version, async (view) => digest(view.createReadStream(path), data))
  },

  // Bytes [start, stop) of a file, and which blocks of it are local when they have been read.
  async readRange({ drive, path, start, stop, data = true }) {
    const opened = getDrive(drive)
    const entry = await opened.entry(path)
    if (entry === null) throw new Error('no such entry: ' + path)
    const range = { start, end: stop - 1 } // the reference counts the end in
    const result = await digest(opened.createReadStream(entry, range), data)
    const { core } = await opened.getBlobs()
    const { blockOffset, blockLength } = entry.value.blob
    return { ...result, held: heldRanges(core, blockOffset, blockOffset + blockLength) }
  },

  async mirror({ drive, folder, prune = true }) {
    const mirror = getDrive(drive).mirror(new Localdrive(folder), { prune })
    await mirror.done()
    return mirror.count
  },

  async mirrorFrom({ drive, folder, prune = true, dedup = false, batch = false }) {
    const mirror = new Localdrive(folder).mirror(getDrive(drive), { prune, dedup, batch })
    await mirror.done()
    return mirror.count
  },

  async history({ drive }) {
    const changes = []
    for await (const { type, seq, key, value } of getDrive(drive).db.createHistoryStream()) {
      changes.push({ type, seq, key, value })
    }
    return changes
  },

  // Resolves with the new version at the next change below `folder`.
  async watchOnce({ drive, folder = '/' }) {
    const watcher = getDrive(drive).watch(folder)
    try {
      await watcher.next()
      return { at: now(), version: getDrive(drive).version }
    } finally {
      await watcher.destroy()
    }
  },

  // -- connections

  async listen({ port = 0 }) {
    const server = net.createServer((socket) => replicate(socket, false))
    await new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, HOST, resolve)
    })
    const bound = server.address().port
    servers.set(bound, server)
    return { port: bound }
  },

  async connect({ port }) {
    const socket = net.connect(port, HOST)
    await new Promise((resolve, reject) => {
      socket.once('error', reject)
      socket.once('connect', resolve)
    })
    replicate(socket, true)
    return { at: now() }
  },

  async disconnect() {
    await Promise.all([...sockets].map((socket) => end(socket)))
    return null
  },

  async stopListening({ port }) {
    const server = servers.get(port)
    if (!server) throw new Error('not listening on ' + port)
    servers.delete(port)
    await new Promise((resolve) => server.close(resolve))
    return null
  },

  // A private HyperDHT of `size` nodes on this machine; the port is its bootstrap node's.
  async testnet({ size = 3 }) {
    const testnet = await createTestnet(size, { host: HOST })
    testnets.push(testnet)
    return { port: testnet.bootstrap[0].port, nodes: testnet.nodes.length }
  },

  // Join the swarm of a key (its discovery key is the topic); resolves when announced and looked up.
  // On loopback a node never learns that it can be reached, so it is told; `firewalled` keeps it a guess.
  async join({ key, bootstrap, server = true, client = true, firewalled = false }) {
    if (swarm === null) {
      const options = { bootstrap: [{ host: HOST, port: bootstrap }], host: HOST }
      const dht = new DHT(firewalled ? options : { ...options, firewalled: false })
      swarm = new Hyperswarm({ dht })
      swarm.on('connection', (stream) => {
        stream.on('error', noop)
        store.replicate(stream)
        event('connection', { remote: stream.remotePublicKey.toString('hex') })
      })
    }
    const discovery = swarm.join(Hypercore.discoveryKey(hex(key)), { server, client })
    await (server ? discovery.flushed() : swarm.flush())
    return { publicKey: swarm.keyPair.publicKey.toString('hex'), connections: swarm.connections.size }
  },

  // What the open cores wait for, and where each peer stands. Ages are seconds.
  async waits() {
    const seen = new Map()
    for (const session of cores.values()) seen.set(session.core, session)
    for (const { core, blobs } of drives.values()) {
      for (const session of [core, blobs && blobs.core]) if (session) seen.set(session.core, session)
    }
    return [...seen.values()].map(describeWaits)
  },

  async stats() {
    const { rss, heapUsed } = process.memoryUsage()
    return { sockets: sockets.size, swarm: swarm ? swarm.connections.size : 0, rss, heapUsed }
  },

  // -- benchmarks

  // Append `count` incompressible blocks of `size` bytes; only the appends are timed.
  async benchAppend({ core, count, size, batch }) {
    const session = getCore(core)
    const pool = crypto.randomBytes(POOL_SIZE)
    let seconds = 0
    for (let done = 0; done < count; done += batch) {
      const blocks = []
      for (let i = done; i < Math.min(done + batch, count); i++) {
        const block = Buffer.from(pool.subarray((i * size) % (POOL_SIZE - size)).subarray(0, size))
        block.writeUInt32LE(i, 0) // no two blocks are equal
        blocks.push(block)
      }
      const started = performance.now()
      await session.append(blocks)
      seconds += (performance.now() - started) / 1000
    }
    return { seconds, length: session.length, byteLength: session.byteLength }
  },

  // From connecting until every block of the remote core is verified and stored here.
  async benchDownload({ core, port, length }) {
    const session = getCore(core)
    const started = performance.now()
    await commands.connect({ port })
    await session.download({ start: 0, end: length }).done()
    return { seconds: (performance.now() - started) / 1000, contiguousLength: session.contiguousLength }
  }
}

// ----------------------------------------------------------------------------------------- helpers

function hex(text) {
  return Buffer.from(text, 'hex')
}

function base64(text) {
  return Buffer.from(text, 'base64')
}

function now() {
  return performance.timeOrigin + performance.now()
}

function noop() {}

function getCore(key) {
  const core = cores.get(key)
  if (!core) throw new Error('core is not open: ' + key)
  return core
}

function getDrive(key) {
  const drive = drives.get(key)
  if (!drive) throw new Error('drive is not open: ' + key)
  return drive
}

function keyPairOf(seed) {
  return hypercoreCrypto.keyPair(seed ? hex(seed) : crypto.randomBytes(32))
}

function decodeManifest({ signers, ...rest }) {
  const decoded = signers.map(({ publicKey, namespace }) => ({
    signature: 'ed25519',
    publicKey: hex(publicKey),
    namespace: namespace === undefined ? undefined : hex(namespace)
  }))
  return { version: 1, ...rest, signers: decoded }
}

// Corestore no longer makes compat cores, but opens those its storage holds.
async function openCompatCore(keyPair) {
  const key = keyPair.publicKey
  const discoveryKey = Hypercore.discoveryKey(key)
  await store.ready()
  if (!(await store.storage.hasCore(discoveryKey))) {
    const manifest = defaultSignerManifest(key)
    await store.storage.createCore({ key, discoveryKey, manifest, keyPair, frozen: false, userData: [] })
  }
  return store.get({ key, keyPair })
}

async function describeCore(core) {
  return {
    key: core.key.toString('hex'),
    discoveryKey: core.discoveryKey.toString('hex'),
    publicKey: core.keyPair ? core.keyPair.publicKey.toString('hex') : null,
    compat: core.core.compat,
    writable: core.writable,
    length: core.length,
    byteLength: core.byteLength,
    contiguousLength: core.contiguousLength,
    fork: core.fork,
    treeHash: await treeHash(core)
  }
}

// The hash of the roots alone: unlike core.treeHash() it never asks a peer for a block.
async function treeHash(core) {
  return (await Hypercore.treeHashFromStorage(core)).toString('hex')
}

function describeDrive(drive) {
  return {
    key: drive.key.toString('hex'),
    discoveryKey: drive.discoveryKey.toString('hex'),
    contentKey: drive.contentKey ? drive.contentKey.toString('hex') : null,
    writable: drive.writable,
    version: drive.version
  }
}

function describeEntry(entry) {
  if (entry === null) return null
  const { executable, linkname, blob, metadata } = entry.value
  return { path: entry.key, seq: entry.seq, executable, linkname, blob, metadata }
}

// [[start, stop], …]: the blocks of [start, stop) that are stored here.
function heldRanges(core, start, stop) {
  const { bitfield } = core.core
  const end = stop === null ? core.length : stop
  const ranges = []
  for (let at = bitfield.firstSet(start); at !== -1 && at < end; ) {
    const unset = bitfield.firstUnset(at)
    const until = unset === -1 ? end : Math.min(unset, end)
    ranges.push([at, until])
    at = bitfield.firstSet(until)
  }
  return ranges
}

// What is asked of whom since when; what nobody is asked for; what each peer says it has.
function describeWaits(session) {
  const { core } = session
  const { replicator, bitfield } = core
  const missing = []
  for (let at = bitfield.firstUnset(0); at !== -1 && at < session.length; ) {
    const set = bitfield.firstSet(at)
    const until = set === -1 ? session.length : Math.min(set, session.length)
    missing.push([at, until])
    at = bitfield.firstUnset(until)
  }
  const asked = []
  for (const { block, upgrade, hash, seek, peer, timestamp } of replicator._inflight) {
    const what = block ? 'block ' + block.index : upgrade ? 'upgrade' : hash ? 'hash' : seek ? 'seek' : 'manifest'
    asked.push({ what, peer: replicator.peers.indexOf(peer), age: (Date.now() - timestamp) / 1000 })
  }
  return {
    key: session.key.toString('hex'),
    length: session.length,
    fork: session.fork,
    missing,
    asked,
    queued: replicator._queued.filter((block) => block.queued).map((block) => block.index),
    ranges: replicator._ranges.map((range) => [range.start, range.end]),
    upgrading: replicator._upgrade !== null && replicator._upgrade.refs.length > 0,
    unopened: replicator._ifAvailable, // connections that have not said whether they have the core
    invalid: replicator.stats.invalidData,
    peers: replicator.peers.map((peer) => {
      const raw = peer.stream.rawStream // other than a UDX stream it tells nothing
      return {
        remote: peer.remotePublicKey.toString('hex'),
        port: raw.remotePort || 0,
        length: peer.remoteLength,
        fork: peer.remoteFork,
        acked: peer.lengthAcked,
        canUpgrade: peer.remoteCanUpgrade,
        has: missing.map(([start, stop]) => {
          let count = 0
          for (let i = start; i < stop; i++) if (peer._remoteHasBlock(i)) count++
          return count
        }),
        inflight: peer.inflight,
        paused: peer.paused,
        uploading: peer.remoteUploading,
        timeouts: raw.rtoCount || 0,
        unacknowledged: raw.inflight || 0,
        received: raw.bytesReceived || 0
      }
    })
  }
}

async function atVersion(drive, version, look) {
  const opened = getDrive(drive)
  if (!version) return look(opened)
  const view = opened.checkout(version)
  try {
    return await look(view)
  } finally {
    await view.close()
  }
}

async function digest(stream, withData) {
  const hash = crypto.createHash('sha256')
  const chunks = []
  let length = 0
  for await (const chunk of stream) {
    hash.update(chunk)
    length += chunk.length
    if (withData) chunks.push(chunk)
  }
  const result = { length, sha256: hash.digest('hex') }
  return withData ? { ...result, data: Buffer.concat(chunks).toString('base64') } : result
}

async function writeStream(stream, source) {
  const finished = new Promise((resolve, reject) => {
    stream.once('error', reject)
    stream.once('close', resolve)
  })
  for await (const chunk of source) {
    if (!stream.write(chunk)) await Promise.race([finished, new Promise((resolve) => stream.once('drain', resolve))])
  }
  stream.end()
  await finished
}

function replicate(socket, isInitiator) {
  const stream = store.replicate(isInitiator)
  socket.setNoDelay(true)
  sockets.add(socket)
  event('connection', { initiator: isInitiator })
  let reason = null
  const remember = (error) => {
    reason = reason || error.message
  }
  socket.on('error', remember)
  stream.on('error', remember)
  stream.once('close', () => socket.destroy())
  socket.once('close', () => {
    sockets.delete(socket)
    stream.destroy()
    event('disconnected', { reason })
  })
  socket.pipe(stream).pipe(socket)
}

function end(socket) {
  return new Promise((resolve) => {
    socket.once('close', resolve)
    socket.destroy()
  })
}

function send(message) {
  process.stdout.write(JSON.stringify(message) + '\n')
}

function event(name, members) {
  if (!closing) send({ event: name, ...members })
}

function fail(message) {
  process.stderr.write('peer.js: ' + message + '\n')
  process.exit(2)
}

async function run(line) {
  let id = null
  try {
    const command = JSON.parse(line)
    id = command.id
    if (!Object.hasOwn(commands, command.do)) throw new Error('unknown command ' + command.do)
    const value = await commands[command.do](command)
    send({ id, ok: value === undefined ? null : value })
  } catch (error) {
    send({ id, error: { code: error.code || error.name, message: error.message } })
  }
}

async function shutdown(code) {
  if (closing) return
  closing = true
  setTimeout(() => process.exit(code), SHUTDOWN_TIME)
  try {
    if (swarm) await swarm.destroy()
    for (const testnet of testnets) await testnet.destroy()
    for (const server of servers.values()) server.close()
    for (const socket of sockets) socket.destroy()
    await store.close()
  } catch (error) {
    process.stderr.write('peer.js: while closing: ' + error.message + '\n')
  }
  process.exit(code)
}

async function main() {
  setTimeout(() => {
    process.stderr.write('peer.js: lifetime of ' + args.lifetime + ' s is over\n')
    shutdown(3)
  }, Number(args.lifetime) * 1000)
  process.once('SIGTERM', () => shutdown(0))
  process.stdout.on('error', () => process.exit(0))
  await store.ready()
  event('ready', { pid: process.pid, node: process.version, primaryKey: store.primaryKey.toString('hex') })
  readline.createInterface({ input: process.stdin }).on('line', run).on('close', () => shutdown(0))
}

main().catch((error) => fail(error.stack))
