'use strict';
// An HTTP/1.1 client for the Runtime API: one server, one connection, one request at a time, by hand on a socket, because
// loading `http` takes longer than the rest of the bootstrap.

const net = require('net');

const HEAD_END = '\r\n\r\n';
// More than any head of the Runtime API; a client context alone may have 3,583 bytes before it is escaped.
const HEAD_BYTES = 1024 * 1024;

class RuntimeApi {
  constructor(address) {
    const colon = address.lastIndexOf(':');
    this.host = address.slice(0, colon);
    this.port = Number(address.slice(colon + 1));
    this.tail = ` HTTP/1.1\r\nHost: ${address}\r\n`;
    this.socket = null;
    this.pending = null;
    this.received = [];
    this.receivedBytes = 0;
    this.head = null;
    this.connect();
  }

  connect() {
    const socket = net.connect({ host: this.host, port: this.port, noDelay: true });
    socket.on('data', (chunk) => this.socket === socket && this.take(chunk));
    socket.on('error', (error) => this.socket === socket && this.lost(error));
    socket.on('close', () => this.socket === socket && this.lost(new Error('the Runtime API closed the connection')));
    this.socket = socket;
    this.fresh = true;
    this.received = [];
    this.receivedBytes = 0;
    this.head = null;
  }

  // While the handler runs, the connection must not keep the event loop alive: its emptiness is what some handlers' end
  // goes by.
  letGo() {
    if (this.socket) this.socket.unref();
  }

  next() {
    return this.exchange(`GET /2018-06-01/runtime/invocation/next${this.tail}\r\n`, '');
  }

  async post(path, body, headers = '') {
    const bytes = Buffer.byteLength(body);
    const head = `POST /2018-06-01/runtime/${path}${this.tail}${headers}` +
      `Content-Type: application/json\r\nContent-Length: ${bytes}\r\n\r\n`;
    const { status, body: answer } = await this.exchange(head, body);
    // What is refused (4xx) is the server's to report, such as a response that is too large.
    if (status >= 500) throw new Error(`the Runtime API answered ${status} to ${path}: ${answer.toString()}`);
  }

  exchange(head, body) {
    return new Promise((resolve, reject) => {
      this.pending = { head, body, resolve, reject, retried: false };
      if (!this.socket) this.connect();
      this.send();
    });
  }

  send() {
    this.socket.ref();
    this.socket.write(this.pending.head + this.pending.body);
  }

  lost(error) {
    const { fresh } = this;
    this.socket = null;
    const { pending } = this;
    if (!pending) return;
    // A kept connection may have been closed from the other side meanwhile: once more on a new one.
    if (!fresh && !pending.retried) {
      pending.retried = true;
      this.connect();
      this.send();
    } else {
      this.pending = null;
      pending.reject(error);
    }
  }

  take(chunk) {
    this.received.push(chunk);
    this.receivedBytes += chunk.length;
    if (this.head === null) {
      const all = this.joined();
      const end = all.indexOf(HEAD_END);
      if (end < 0) {
        if (all.length > HEAD_BYTES) this.socket.destroy(new Error("the Runtime API's answer has no end of its head"));
        return;
      }
      this.head = parseHead(all.toString('utf8', 0, end));
      this.keep(all.subarray(end + HEAD_END.length));
    }
    if (this.head.chunked) {
      const whole = this.joined();
      const body = unchunk(whole);
      if (body) this.finish(body.body, whole.subarray(body.end));
    } else if (this.receivedBytes >= this.head.length) {
      const whole = this.joined();
      this.finish(whole.subarray(0, this.head.length), whole.subarray(this.head.length));
    }
  }

  joined() {
    if (this.received.length !== 1) this.received = [Buffer.concat(this.received)];
    return this.received[0];
  }

  keep(rest) {
    this.received = rest.length ? [rest] : [];
    this.receivedBytes = rest.length;
  }

  finish(body, rest) {
    const { head, pending } = this;
    this.keep(rest);
    this.head = null;
    this.fresh = false;
    this.pending = null;
    if (head.fields.connection === 'close') {
      const { socket } = this;
      this.socket = null;
      socket.end();
    }
    pending.resolve({ status: head.status, fields: head.fields, body });
  }
}

function parseHead(text) {
  const lines = text.split('\r\n');
  const fields = Object.create(null);
  for (let i = 1; i < lines.length; i++) {
    const colon = lines[i].indexOf(':');
    fields[lines[i].slice(0, colon).toLowerCase()] = lines[i].slice(colon + 1).trim();
  }
  return {
    status: Number(lines[0].split(' ')[1]),
    fields,
    chunked: fields['transfer-encoding'] === 'chunked',
    length: Number(fields['content-length'] || 0),
  };
}

// The body of a whole chunked message, or nothing as long as its end is missing.
function unchunk(bytes) {
  const chunks = [];
  for (let at = 0; ;) {
    const end = bytes.indexOf('\r\n', at);
    if (end < 0) return undefined;
    const size = parseInt(bytes.toString('latin1', at, end), 16);
    if (size === 0) {
      const last = bytes.indexOf(HEAD_END, at);
      return last < 0 ? undefined : { body: Buffer.concat(chunks), end: last + HEAD_END.length };
    }
    const next = end + 2 + size + 2;
    if (next > bytes.length) return undefined;
    chunks.push(bytes.subarray(end + 2, next - 2));
    at = next;
  }
}

exports.RuntimeApi = RuntimeApi;
