'use strict';
// Stands in for the native part of AWS's client, in the tests only: `next`, `done` and `error` over one connection to the
// Runtime API. As there, `done` and `error` return when they are through; `next` keeps the event loop alive.

const fs = require('fs');
const Module = require('module');
const net = require('net');
const path = require('path');

const address = process.env.AWS_LAMBDA_RUNTIME_API;
const [host, port] = address.split(':');
const pause = new Int32Array(new SharedArrayBuffer(4));
const PAUSE_MS = 1;
let socket = null;

function request(method, target, body, headers = '') {
  const length = Buffer.byteLength(body);
  const head = `${method} /2018-06-01/runtime/${target} HTTP/1.1\r\nHost: ${address}\r\n${headers}Content-Length: ${length}\r\n\r\n`;
  return Buffer.from(head + body);
}

// The whole answer in these bytes, or nothing yet.
function parse(bytes) {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [, ...lines] = bytes.toString('latin1', 0, end).split('\r\n');
  const headers = {};
  for (const line of lines) headers[line.slice(0, line.indexOf(':')).toLowerCase()] = line.slice(line.indexOf(':') + 1).trim();
  const body = bytes.subarray(end + 4);
  if (body.length < Number(headers['content-length'] ?? 0)) return undefined;
  return { headers, body };
}

function connected() {
  if (socket) return Promise.resolve();
  return new Promise((resolve, reject) => {
    socket = net.connect({ host, port: Number(port), noDelay: true }, resolve).on('error', reject);
  });
}

async function next() {
  await connected();
  socket.ref();
  const chunks = [];
  const { headers, body } = await new Promise((resolve, reject) => {
    socket.on('close', () => reject(new Error('Failed to get next invocation')));
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      const answer = parse(Buffer.concat(chunks));
      if (answer) resolve(answer);
    });
    socket.resume();
    socket.write(request('GET', 'invocation/next', ''));
  });
  socket.removeAllListeners('data').removeAllListeners('close');
  socket.pause();
  socket.unref();
  return { bodyJson: body.toString(), headers };
}

function withPatience(action) {
  for (;;) {
    try {
      return action();
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(pause, 0, 0, PAUSE_MS);
    }
  }
}

// Past the event loop: the descriptor itself.
function post(target, body, headers) {
  const { fd } = socket._handle;
  let bytes = request('POST', target, body, `Content-Type: application/json\r\n${headers}`);
  while (bytes.length) bytes = bytes.subarray(withPatience(() => fs.writeSync(fd, bytes)));
  let received = Buffer.alloc(0);
  while (!parse(received)) {
    const chunk = Buffer.alloc(4096);
    const count = withPatience(() => fs.readSync(fd, chunk));
    if (!count) throw new Error('the Runtime API closed the connection');
    received = Buffer.concat([received, chunk.subarray(0, count)]);
  }
}

// As the native part checks its arguments.
function text(value) {
  if (typeof value !== 'string') throw new TypeError('Wrong arguments');
  return value;
}

const client = {
  next,
  done: (id, body) => post(`invocation/${text(id)}/response`, text(body), ''),
  error: (id, body) => post(`invocation/${text(id)}/error`, text(body), 'Lambda-Runtime-Function-Error-Type: unhandled\r\n'),
};

const load = Module._extensions['.node'];
Module._extensions['.node'] = (module, file) => {
  if (path.basename(file) === 'rapid-client.node') module.exports = client;
  else load(module, file);
};
