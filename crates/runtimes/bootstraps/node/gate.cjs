'use strict';
// The gate: with the argument `--template` the process stops here, before it knows any function, and is captured. What goes
// on from here are copies of it, each with variables of its own: see crates/runtimes/src/template.rs.

const fs = require('fs');

const GATE = 3;

// What functions commonly require. Loaded once, and shared by all copies until they change it.
const PRELOADED = [
  'assert', 'async_hooks', 'buffer', 'child_process', 'crypto', 'dns', 'events', 'fs/promises', 'http', 'https', 'net', 'os',
  'path', 'perf_hooks', 'querystring', 'stream', 'stream/promises', 'string_decoder', 'timers/promises', 'tls', 'url', 'util',
  'worker_threads', 'zlib',
];

function takeVariables(text) {
  for (const name of Object.keys(process.env)) delete process.env[name];
  for (const line of text.split('\0')) {
    const at = line.indexOf('=');
    if (at > 0) process.env[line.slice(0, at)] = line.slice(at + 1);
  }
}

// No two copies may have the same random numbers to come. OpenSSL sees to itself, since the process has another number;
// `Math.random` takes its seed when it is first called, which nobody has done yet.
function renew() {
  const v8 = require('v8');
  v8.setFlagsFromString(`--random-seed=${1 + require('crypto').randomInt(2 ** 31 - 2)}`);
  Math.random();
  v8.setFlagsFromString('--random-seed=0');
}

function wait() {
  for (const name of PRELOADED) require(name);
  globalThis.gc?.();
  fs.writeSync(GATE, 'here');
  const text = fs.readFileSync(GATE, 'utf8');
  fs.closeSync(GATE);
  takeVariables(text);
  Object.defineProperty(process, 'pid', { value: Number(fs.readlinkSync('/proc/self')), enumerable: true, configurable: true });
  renew();
}

if (process.argv[2] === '--template') {
  process.argv.splice(2);
  wait();
}
