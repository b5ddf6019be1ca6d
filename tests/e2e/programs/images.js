// What images.py does, for Node.js.
const fs = require('fs');
const crypto = require('crypto');

const GLOBAL = 'trace-' + crypto.randomBytes(16).toString('hex');
const CODE = 'CODE_MARK';
const TRACE = /trace-[0-9a-f]{32}|ASIA[A-Z0-9]{16}/g;
const STEP = 1 << 20;

const deeds = {
  own() {
    const found = [CODE, GLOBAL, process.env.VARIABLE, process.env.AWS_ACCESS_KEY_ID];
    for (const folder of ['/tmp', '/dev/shm']) fs.writeFileSync(folder + '/traces', found.join(' '));
    return found;
  },
  files() {
    return Object.fromEntries(['/tmp', '/dev/shm'].map((folder) => [folder, fs.readdirSync(folder).sort()]));
  },
  search() {
    const found = new Set();
    const memory = fs.openSync('/proc/self/mem', 'r');
    const buffer = Buffer.alloc(STEP + 64);
    for (const line of fs.readFileSync('/proc/self/maps', 'utf8').split('\n')) {
      const [span, mode, , , , path] = line.split(/\s+/);
      if (!mode || !mode.startsWith('r') || (path || '').startsWith('[v') || (mode[1] !== 'w' && (path || '').startsWith('/') && !path.startsWith('/memfd'))) continue;
      const [start, end] = span.split('-').map((each) => parseInt(each, 16));
      for (let at = start; at < end; at += STEP) {
        let count = 0;
        try { count = fs.readSync(memory, buffer, 0, Math.min(buffer.length, end - at), at); } catch { break; }
        for (const each of buffer.subarray(0, count).toString('latin1').match(TRACE) || []) found.add(each);
      }
    }
    for (const folder of ['/tmp', '/dev/shm']) for (const name of fs.readdirSync(folder)) {
      for (const each of fs.readFileSync(folder + '/' + name, 'latin1').match(TRACE) || []) found.add(each);
    }
    return [...found].sort();
  },
  draw() {
    return {
      math: Math.random(), bytes: crypto.randomBytes(16).toString('hex'),
      uuid: crypto.randomUUID(), uncached: crypto.randomUUID({ disableEntropyCache: true }), integer: crypto.randomInt(2 ** 47),
      web: Buffer.from(globalThis.crypto.getRandomValues(new Uint8Array(16))).toString('hex'),
      key: crypto.generateKeySync('aes', { length: 128 }).export().toString('hex'),
      folder: fs.mkdtempSync('/tmp/x'),
    };
  },
  context() {
    return require('vm').runInNewContext('Math.random()');
  },
  async worker() {
    const { Worker } = require('worker_threads');
    const worker = new Worker("require('worker_threads').parentPort.postMessage(Math.random())", { eval: true });
    return new Promise((done) => worker.once('message', done));
  },
  walls() {
    const status = Object.fromEntries(fs.readFileSync('/proc/self/status', 'utf8').split('\n').map((line) => line.split(':\t')));
    const kept = ['Umask', 'Uid', 'Gid', 'Groups', 'SigPnd', 'ShdPnd', 'SigBlk', 'SigIgn', 'SigCgt', 'CapInh', 'CapPrm', 'CapEff', 'CapBnd',
      'CapAmb', 'NoNewPrivs', 'Seccomp', 'Seccomp_filters', 'Threads'];
    const told = Object.fromEntries(kept.map((name) => [name, status[name]]));
    told.limits = fs.readFileSync('/proc/self/limits', 'utf8');
    // By kind: the numbers depend on the order of things at the start. A copy's OpenSSL keeps /dev/urandom, which anybody may open.
    told.descriptors = [];
    for (const number of fs.readdirSync('/proc/self/fd')) {
      try { told.descriptors.push(fs.readlinkSync('/proc/self/fd/' + number).replace(/\[\d.*/, '')); } catch { continue; }
    }
    told.descriptors = told.descriptors.filter((each) => each !== '/dev/urandom').sort();
    told.others = [process.ppid, process.cwd()];
    return told;
  },
  async work() {
    const child = require('child_process').spawnSync(process.execPath, ['-p', 'process.ppid'], { encoding: 'utf8' });
    const caught = new Promise((done) => process.once('SIGUSR2', done));
    process.kill(process.pid, 'SIGUSR2');
    const before = performance.now();
    await new Promise((done) => setTimeout(done, 20));
    return { number: [process.pid, Number(fs.readlinkSync('/proc/self')), Number(child.stdout)], caught: await caught, now: Date.now() / 1000,
      'goes on': [performance.now() > before, true] };
  },
  spoil() {
    JSON.parse('1'); JSON.parsed = true; Math.random = () => 4; process.env.SPOILT = 'yes'; fs.readdirSync.spoilt = true; process.chdir('/tmp');
    return 'spoilt';
  },
  unspoilt() {
    return [JSON.parsed === undefined, Math.random() !== 4, process.env.SPOILT === undefined, fs.readdirSync.spoilt === undefined, process.cwd()];
  },
  async take(event) {
    const held = [];
    while (held.length < event.mib / 16) { held.push(Buffer.alloc(16 << 20, 1)); await null; }
    return held.length;
  },
};
deeds.pause = async (event) => {
  const drawn = deeds.draw();
  await new Promise((done) => setTimeout(done, event.seconds * 1000));
  return drawn;
};

exports.handler = async (event, context) => ({
  program: fs.readlinkSync('/proc/self/exe'), environment: context.logStreamName, answer: await deeds[event.do](event),
});
