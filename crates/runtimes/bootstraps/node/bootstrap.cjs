'use strict';
// Runs a Node.js function: asks the Runtime API for events, calls the handler, posts what came of it.
//
//     loaded handler --> next --> handler(event, context[, callback]) --> response or error --> next --> ...
//
// - client.cjs: the Runtime API
// - console.cjs: log lines
// - loader.cjs: finds the handler
// - paths.cjs: lets ES modules find what `NODE_PATH` names
// - errors.cjs: the runtime's own errors
// - store.cjs: what libraries ask for the current event's ids
//
// A handler may end in three ways: by its promise, by its callback, or (a plain function that calls nothing back) by
// running out of things to do. The latter two do not exist from nodejs24.x on. What functions can observe is AWS's.

const { RuntimeApi } = require('./client.cjs');
const { describe, promisesOnly, JSONStringifyError, UnhandledPromiseRejection } = require('./errors.cjs');
const { load } = require('./loader.cjs');
const { InvokeStore } = require('./store.cjs');

// AWS's exit statuses of a runtime whose function left an exception or a rejection to it.
const EXIT_UNCAUGHT = 129;
const EXIT_UNHANDLED = 128;

// What the log lines carry before the first event differs between the releases, too.
const state = { requestId: promisesOnly ? '-' : undefined };
const api = new RuntimeApi(process.env.AWS_LAMBDA_RUNTIME_API);
const logFailure = require('./console.cjs').patch(state, describe);

// What libraries ask for the current event's ids, from nodejs24.x on.
const store = promisesOnly ? new InvokeStore() : undefined;

// What happens when nothing is left to do. Nothing, by default: then the process ends.
let onEmptyLoop = () => {};

function setGlobals() {
  const off = process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA;
  if (off === '1' || off === 'true') return;
  globalThis.awslambda = {
    streamifyResponse(handler) {
      handler[Symbol.for('aws.lambda.runtime.handler.streaming')] = 'response';
      return handler;
    },
    HttpResponseStream: class {
      static from() {
        throw new Error('awslambda.HttpResponseStream: Freehold does not stream responses yet.');
      }
    },
    ...(store && { InvokeStore: store }),
  };
}

function errorTypeHeader(fault) {
  const text = String(fault.errorType).replace(/[^ -~]/g, '?');
  return `Lambda-Runtime-Function-Error-Type: ${text}\r\n`;
}

function postError(path, error) {
  const fault = describe(error);
  return api.post(path, JSON.stringify(fault), errorTypeHeader(fault));
}

const postResponse = (id, text) => api.post(`invocation/${id}/response`, text);

function toJson(value) {
  let text;
  try {
    text = JSON.stringify(value === undefined ? null : value);
  } catch {
    const message = 'Unable to stringify response body';
    throw promisesOnly ? new JSONStringifyError(message) : new Error(message);
  }
  // A function or a symbol.
  if (text === undefined) throw new TypeError('Wrong arguments');
  return text;
}

function parseHeader(fields, field, name) {
  if (!fields[field]) return undefined;
  try {
    return JSON.parse(fields[field]);
  } catch (error) {
    throw new Error(`Cannot parse ${name} as json: ${error}`);
  }
}

function contextData(fields) {
  const deadline = Number(fields['lambda-runtime-deadline-ms']);
  const { env } = process;
  const names = {
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
  };
  const fromEnvironment = {
    // In the order of AWS's object, which shows when it is logged.
    ...(promisesOnly ? names : { functionVersion: names.functionVersion, functionName: names.functionName }),
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
  };
  const fromEvent = {
    clientContext: parseHeader(fields, 'lambda-runtime-client-context', 'ClientContext'),
    identity: parseHeader(fields, 'lambda-runtime-cognito-identity', 'CognitoIdentity'),
    invokedFunctionArn: fields['lambda-runtime-invoked-function-arn'],
    awsRequestId: fields['lambda-runtime-aws-request-id'],
    tenantId: fields['lambda-runtime-aws-tenant-id'],
    ...(promisesOnly && { xRayTraceId: fields['lambda-runtime-trace-id'] }),
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
  return promisesOnly ? { ...fromEvent, ...fromEnvironment } : { ...fromEnvironment, ...fromEvent };
}

async function nextEvent() {
  const { status, fields, body } = await api.next();
  if (status !== 200) throw new Error(`the Runtime API answered ${status} to next: ${body.toString()}`);
  state.requestId = fields['lambda-runtime-aws-request-id'];
  state.tenantId = fields['lambda-runtime-aws-tenant-id'];
  const trace = fields['lambda-runtime-trace-id'];
  if (trace) process.env._X_AMZN_TRACE_ID = trace;
  else delete process.env._X_AMZN_TRACE_ID;
  api.letGo();
  return { id: state.requestId, fields, body };
}

// From nodejs24.x on: what the handler returns or its promise gives is the answer.
async function servePromise(handler, { id, fields, body }) {
  let text;
  try {
    const context = contextData(fields);
    const event = JSON.parse(body.toString());
    text = toJson(await store.run(context, () => handler(event, context)));
  } catch (error) {
    logFailure('Invoke Error', error);
    return postError(`invocation/${id}/error`, error);
  }
  return postResponse(id, text);
}

// Up to nodejs22.x. The promise that this gives is kept once the event is answered, in whatever way.
function serveAnyStyle(handler, { id, fields, body }) {
  return new Promise((answered, broken) => {
    let over = false;
    let waits = true;
    const settle = (posting) => {
      over = true;
      onEmptyLoop = () => {};
      posting.then(answered, broken);
    };
    const failed = (error) => {
      logFailure('Invoke Error', error);
      settle(postError(`invocation/${id}/error`, error));
    };
    const succeeded = (result) => settle(postResponse(id, toJson(result)));
    const once = (action) => (...values) => {
      if (!over) action(...values);
    };
    const done = once((error, result) => (error === undefined || error === null ? succeeded(result) : failed(error)));
    const callback = once((error, result) => {
      if (error !== undefined && error !== null) return failed(error);
      if (!waits) return succeeded(result);
      over = true;
      onEmptyLoop = () => succeeded(result);
    });
    const context = Object.assign(
      {
        get callbackWaitsForEmptyEventLoop() {
          return waits;
        },
        set callbackWaitsForEmptyEventLoop(value) {
          waits = value;
        },
        succeed: (result) => done(null, result),
        fail: (error) => done(error ?? 'handled'),
        done,
      },
    );
    onEmptyLoop = () => over || succeeded(null);
    try {
      Object.assign(context, contextData(fields));
      const result = handler(JSON.parse(body.toString()), context, callback);
      if (typeof result?.then === 'function') result.then(context.succeed, context.fail).catch(context.fail);
    } catch (error) {
      callback(error);
    }
  });
}

// Up to nodejs22.x: what the function leaves to the runtime is reported as this event's (or the init's) failure, and
// ends the process.
function catchTheRest() {
  const end = (title, error, status) => {
    logFailure(title, error);
    const path = state.requestId === undefined ? 'init/error' : `invocation/${state.requestId}/error`;
    postError(path, error).finally(() => process.exit(status));
  };
  process.on('uncaughtException', (error) => end('Uncaught Exception', error, EXIT_UNCAUGHT));
  process.on('unhandledRejection', (reason, promise) => {
    end('Unhandled Promise Rejection', new UnhandledPromiseRejection(reason, promise), EXIT_UNHANDLED);
  });
  process.on('beforeExit', () => onEmptyLoop());
}

async function main() {
  setGlobals();
  if (!promisesOnly) catchTheRest();
  let handler;
  try {
    handler = await load(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
  } catch (error) {
    logFailure(promisesOnly ? 'Init Error' : 'Uncaught Exception', error);
    await postError('init/error', error);
    process.exit(promisesOnly ? 1 : EXIT_UNCAUGHT);
  }
  // What went wrong while it was loaded is the init's failure, as long as no event has been asked for.
  if (!promisesOnly) await new Promise(setImmediate);
  const serve = promisesOnly ? servePromise : serveAnyStyle;
  for (;;) {
    await serve(handler, await nextEvent());
    // Lets what the handler left on the event loop have its turn, as AWS does.
    await new Promise(setImmediate);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
