'use strict';
// What a Node.js function can do and see, case by case. `handler` calls the one that the event names; cases for handlers of
// other styles (callbacks, plain functions) are in styles.js.

const fs = require('fs');
const { execFileSync } = require('child_process');

const later = (ms) => new Promise((done) => setTimeout(done, ms));

class OrderFailed extends Error {
  constructor(message) {
    super(message);
    this.name = 'OrderFailed';
    this.order = 12;
  }
}

const cases = {
  // --- answers
  echo: async (event) => event,
  numbers: async () => [1, 2.5, 1e100, -0, NaN, Infinity, null, true],
  text: async () => ({ 'grüße': '🦀 \u2028 \x7f \x01' }),
  surrogate: async () => '\ud800',
  nothing: async () => {},
  aFunction: async () => () => 1,
  aDate: async () => new Date(0),
  aMap: async () => [new Map([[1, 2]]), new Set([1]), Symbol('s'), undefined],
  aBuffer: async () => Buffer.from('hi'),
  aBigInt: async () => 1n,
  aCycle: async () => {
    const value = {};
    value.self = value;
    return value;
  },
  itsOwnJson: async () => ({ toJSON: () => 'as it likes' }),
  sizeOf: async (event) => event.text.length,
  large: async (event) => 'x'.repeat(event.size),

  // --- the context
  contextFields: async (event, context) => JSON.parse(JSON.stringify(context)),
  contextMembers: async (event, context) => Object.keys(context),
  remainingTime: async (event, context) => {
    const left = context.getRemainingTimeInMillis();
    return [typeof left, Number.isInteger(left), left > 0 && left <= 9000];
  },
  clientContext: async (event, context) => [typeof context.clientContext, context.clientContext],
  identity: async (event, context) => typeof context.identity,
  waits: async (event, context) => [context.callbackWaitsForEmptyEventLoop, typeof context.done, typeof context.succeed, typeof context.fail],
  traceVariable: async () => process.env._X_AMZN_TRACE_ID,

  // --- errors
  fail: async () => {
    throw new Error('boom');
  },
  failInClassOfItsOwn: async () => {
    throw new OrderFailed('no stock');
  },
  failWithCause: async () => {
    throw new Error('outer', { cause: new TypeError('inner') });
  },
  failInLines: async () => {
    throw new RangeError('first\nsecond');
  },
  failInUnicode: async () => {
    throw new Error('grüße 🦀');
  },
  failWithText: async () => {
    throw 'just text';
  },
  failWithObject: async () => {
    throw { reason: 'an object' };
  },
  failWithNothing: async () => {
    throw undefined;
  },
  failWithNumber: async () => {
    throw 42;
  },
  failLikeError: async () => {
    throw { name: 'LikeError', message: 'but none', stack: 'LikeError: but none\n    at nowhere' };
  },
  failWithoutStack: async () => {
    const error = new Error('bare');
    delete error.stack;
    error.stack = undefined;
    throw error;
  },
  failAggregate: async () => {
    throw new AggregateError([new Error('one'), new Error('two')], 'several');
  },
  failNull: async () => null.x,
  failDelete: async () => {
    throw new Error('a\x7fb');
  },
  failAtOnce: () => {
    throw new Error('not in a promise');
  },
  rejects: () => Promise.reject(new Error('rejected')),
  uncaught: async () => {
    setTimeout(() => {
      throw new Error('late');
    }, 1);
    await later(5000);
  },
  unhandled: async () => {
    Promise.reject(new Error('nobody caught'));
    await later(5000);
  },
  unhandledText: async () => {
    Promise.reject('just text');
    await later(5000);
  },
  exits: async () => process.exit(4),
  exitsWithZero: async () => process.exit(0),
  aborts: async () => process.abort(),
  terminates: async () => {
    process.kill(process.pid, 'SIGTERM');
    await later(5000);
  },
  terminatesCaught: async () => {
    const seen = new Promise((done) => process.once('SIGTERM', done));
    process.kill(process.pid, 'SIGTERM');
    return seen;
  },
  neverEnds: () => new Promise(() => {}),
  tooSlow: async () => {
    console.log('before');
    await later(60_000);
  },

  // --- output
  logs: async () => {
    console.trace('a trace');
    console.debug('a debug');
    console.info('an info');
    console.log('a log');
    console.warn('a warning');
    console.error('an error');
    console.fatal('a fatal');
  },
  logsFormats: async () => {
    console.log('a %s %d %j %%', 'b', 7, { c: 1 }, { d: [1, { e: { f: {} } }] }, 'rest');
    console.log();
    console.log(undefined, null);
    console.log('first\nsecond');
    console.log({ object: 1 });
    console.log([1, 2], new Map([[1, 2]]), Symbol('s'), 10n, () => 1);
  },
  logsErrors: async () => {
    console.log(new OrderFailed('logged'));
    console.error('with text', new TypeError('logged too'));
  },
  logsCycle: async () => {
    const value = {};
    value.self = value;
    console.log(value);
  },
  logsOthers: async () => {
    console.table([{ a: 1 }]);
    console.dir({ b: 1 });
    console.group('group');
    console.log('inside');
    console.groupEnd();
    console.assert(false, 'assertion');
    console.count();
  },
  writes: async () => {
    process.stdout.write('out\n');
    process.stderr.write('err\n');
    fs.writeSync(1, 'raw\n');
  },
  writesBinary: async () => {
    process.stdout.write(Buffer.from([0x63, 0x61, 0x66, 0xe9, 0x20, 0x00, 0x01, 0x0a]));
  },
  runsProgram: async () => {
    console.log('before');
    execFileSync('sh', ['-c', 'echo from the child; echo its error >&2'], { stdio: 'inherit' });
    console.log('after');
  },
  floods: async (event) => {
    for (let number = 0; number < event.lines; number++) console.log('line', number, 'x'.repeat(100));
    return event.lines;
  },
  longLine: async () => console.log('x'.repeat(300_000) + 'end'),
  printsJson: async () => {
    for (const level of ['DEBUG', 'ERROR']) {
      process.stdout.write(`{"timestamp": "2026-11-24T00:00:00Z", "level": "${level}", "message": "by hand"}\n`);
    }
  },
  emitsWarning: async () => {
    process.emitWarning('old');
    await later(20);
  },

  // --- the world around
  reservedVariables: async () => Object.fromEntries([
    '_HANDLER', '_X_AMZN_TRACE_ID', 'AWS_DEFAULT_REGION', 'AWS_REGION', 'AWS_EXECUTION_ENV', 'AWS_LAMBDA_FUNCTION_NAME',
    'AWS_LAMBDA_FUNCTION_MEMORY_SIZE', 'AWS_LAMBDA_FUNCTION_VERSION', 'AWS_LAMBDA_INITIALIZATION_TYPE',
    'AWS_LAMBDA_LOG_GROUP_NAME', 'AWS_LAMBDA_LOG_STREAM_NAME', 'AWS_LAMBDA_RUNTIME_API', 'LAMBDA_TASK_ROOT',
    'LAMBDA_RUNTIME_DIR', 'TZ', 'LANG', 'AWS_XRAY_CONTEXT_MISSING', 'AWS_LAMBDA_LOG_FORMAT', 'AWS_LAMBDA_LOG_LEVEL',
  ].map((name) => [name, process.env[name] ?? null])),
  searchPaths: async () => Object.fromEntries(
    ['PATH', 'LD_LIBRARY_PATH', 'NODE_PATH', 'NODE_OPTIONS', 'PWD', 'SHLVL'].map((name) => [name, process.env[name] ?? null])),
  modulePaths: async () => ({ global: require('module').globalPaths.filter((path) => !path.startsWith('/home')), own: module.paths }),
  wrapped: async () => process.env.WRAPPED,
  folders: async () => [process.cwd(), __dirname, process.getuid(), process.getgid()],
  keepsTmp: async () => {
    const found = fs.existsSync('/tmp/kept');
    fs.writeFileSync('/tmp/kept', '');
    return found;
  },
  times: async () => [new Date(0).toString(), Intl.DateTimeFormat().resolvedOptions().timeZone],
  locale: async () => [Intl.DateTimeFormat().resolvedOptions().locale, (1234.5).toLocaleString()],
  interpreter: async () => ({
    argv: process.argv.length, exposed: typeof gc, options: process.execArgv.filter((each) => !/^--require|rapid-client/.test(each)),
    title: process.title, isTTY: Boolean(process.stdout.isTTY), awslambda: Object.keys(globalThis.awslambda).sort(),
    required: typeof globalThis.require,
  }),
  invokeStore: async (event, context) => {
    const store = globalThis.awslambda.InvokeStore;
    store.set('own', 7);
    let refused;
    try {
      store.set(Symbol.for('_AWS_LAMBDA_REQUEST_ID'), 'x');
    } catch (error) {
      refused = error.message;
    }
    return [store.hasContext(), store.getRequestId() === context.awsRequestId, store.getXRayTraceId() === context.xRayTraceId,
      store.getTenantId() === undefined, store.get('own'), refused];
  },
  listeners: async () => Object.fromEntries(
    ['uncaughtException', 'unhandledRejection', 'beforeExit', 'exit', 'SIGTERM'].map((name) => [name, process.listenerCount(name)])),
  usesModule: async () => require('greeter')('Alice'),
  requiresModule: async () => {
    try {
      return Object.keys(require('esm-only'));
    } catch (error) {
      return error.code;
    }
  },
  leavesWork: async () => {
    setTimeout(() => console.log('afterwards'), 0);
    return 'answered';
  },
  thenable: () => ({ then: (done) => done('by a thenable') }),
  plain: () => 'returned without a promise',
};

exports.handler = (event, context) => cases[event.case](event, context);
