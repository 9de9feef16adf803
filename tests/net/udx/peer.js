// The reference's UDX, driven by JSON lines on stdin, answering with JSON lines on stdout.
//
// {"id":1,"do":"stream"}                          -> {"id":1,"stream":ID,"port":PORT}
// {"id":2,"do":"connect","stream":ID,"remote":ID,"port":PORT}
// {"id":3,"do":"pump","stream":ID,"bytes":N}      writes N pattern bytes; answers with their sha256 when flushed
// {"id":4,"do":"write","stream":ID,"hex":"..."}   {"do":"end"} {"do":"destroy"} {"do":"message","hex"} {"do":"info"}
// {"id":5,"do":"wait","stream":ID,"for":"end"|"close"|"bytes","bytes":N} -> what was received: bytes, sha256, ...
// {"id":6,"do":"echo","stream":ID}                what comes is written back, the end as well
const path = require('path')
const crypto = require('crypto')
const UDX = require(path.join(__dirname, '../../interop/node_modules/udx-native'))

const udx = new UDX()
const sockets = [udx.createSocket()]
sockets[0].bind(0, '127.0.0.1')
const streams = new Map()
const plain = []
sockets[0].on('message', (buffer) => plain.push(buffer.toString('hex')))

const CHUNK = 256 * 1024
const pattern = Buffer.alloc(CHUNK + 251)
for (let i = 0; i < pattern.length; i++) pattern[i] = (i * 31 + (i >> 8)) & 255
let nextId = 1000 + Math.floor(Math.random() * 1e9)

function open () {
  const stream = udx.createStream(nextId++)
  const state = { stream, bytes: 0, hash: crypto.createHash('sha256'), ended: false, closed: false, error: null, messages: [], waiters: [], echo: false }
  const wake = () => { state.waiters = state.waiters.filter((waiter) => !waiter()) }
  stream.on('data', (data) => {
    state.bytes += data.byteLength
    state.hash.update(data)
    if (state.echo) stream.write(data)
    wake()
  })
  stream.on('message', (data) => { state.messages.push(data.toString('hex')); wake() })
  stream.on('end', () => { state.ended = true; if (state.echo) stream.end(); wake() })
  stream.on('error', (error) => { state.error = error.code || error.message })
  stream.on('close', () => { state.closed = true; wake() })
  streams.set(stream.id, state)
  return state
}

function report (state) {
  return {
    bytes: state.bytes, sha256: state.hash.copy().digest('hex'), ended: state.ended, closed: state.closed,
    error: state.error, messages: state.messages, plain, mtu: state.stream.mtu, retransmits: state.stream.retransmits,
    at: Number(process.hrtime.bigint()) / 1e9
  }
}

async function pump (state, bytes) {
  const hash = crypto.createHash('sha256')
  let sent = 0
  const started = Number(process.hrtime.bigint()) / 1e9
  while (sent < bytes) {
    const shift = sent % 251
    const chunk = pattern.subarray(shift, shift + Math.min(CHUNK, bytes - sent))
    hash.update(chunk)
    sent += chunk.byteLength
    if (!state.stream.write(chunk)) await new Promise((resolve) => state.stream.once('drain', resolve))
  }
  await state.stream.flush()
  return { sha256: hash.digest('hex'), retransmits: state.stream.retransmits, started, at: Number(process.hrtime.bigint()) / 1e9 }
}

function wait (state, request) {
  return new Promise((resolve) => {
    const done = () => {
      const met = state.closed || (request.for === 'end' && state.ended) ||
        (request.for === 'bytes' && state.bytes >= request.bytes) || (request.for === 'messages' && state.messages.length >= request.count)
      if (met) resolve(report(state))
      return met
    }
    if (!done()) state.waiters.push(done)
  })
}

async function run (request) {
  if (request.do === 'stream') {
    const state = open()
    return { stream: state.stream.id, port: sockets[0].address().port }
  }
  if (request.do === 'datagram') {
    await sockets[0].send(Buffer.from(request.hex, 'hex'), request.port, '127.0.0.1')
    return {}
  }
  const state = streams.get(request.stream)
  const stream = state.stream
  switch (request.do) {
    case 'connect': stream.connect(sockets[0], request.remote, request.port, '127.0.0.1'); return {}
    case 'change': {
      const socket = udx.createSocket()
      socket.bind(0, '127.0.0.1')
      sockets.push(socket)
      // acknowledgements that come to the old socket are refused from now on
      while (stream.inflight > 0) await new Promise((resolve) => setTimeout(resolve, 5))
      await stream.changeRemote(socket, request.remote, request.port, '127.0.0.1')
      return { port: socket.address().port }
    }
    case 'write': stream.write(Buffer.from(request.hex, 'hex')); return {}
    case 'message': stream.trySend(Buffer.from(request.hex, 'hex')); return {}
    case 'end': stream.end(); return {}
    case 'destroy': stream.destroy(); return {}
    case 'echo': state.echo = true; return {}
    case 'pump': return pump(state, request.bytes)
    case 'wait': return wait(state, request)
    case 'info': return report(state)
  }
  throw new Error('unknown request')
}

require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const request = JSON.parse(line)
  run(request).then(
    (answer) => process.stdout.write(JSON.stringify({ id: request.id, ...answer }) + '\n'),
    (error) => process.stdout.write(JSON.stringify({ id: request.id, failed: error.message }) + '\n')
  )
}).on('close', () => process.exit(0))
setTimeout(() => process.exit(1), 10 * 60 * 1000).unref()
