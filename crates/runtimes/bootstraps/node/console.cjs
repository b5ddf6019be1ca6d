'use strict';
// Makes `console` write the log lines of AWS's runtime: time, request id, level, message, separated by tabs, or JSON.
//
// Written synchronously, so that a line is in the log before the answer that follows it, whatever happens then.

const fs = require('fs');
const util = require('util');
const { promisesOnly } = require('./errors.cjs');

const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
// How long to wait for a reader that lags, in ms, before trying again.
const FULL_PIPE_WAIT_MS = 1;

const pause = new Int32Array(new SharedArrayBuffer(4));

function write(text) {
  let bytes = Buffer.from(text);
  while (bytes.length) {
    try {
      bytes = bytes.subarray(fs.writeSync(1, bytes));
    } catch (error) {
      // The descriptor does not block once the function has used `process.stdout`.
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(pause, 0, 0, FULL_PIPE_WAIT_MS);
    }
  }
}

function errorFields(error) {
  return {
    errorType: error?.constructor?.name ?? 'UnknownError',
    errorMessage: error.message,
    stackTrace: typeof error.stack === 'string' ? error.stack.split('\n') : [],
  };
}

function jsonLine(state, level, values) {
  const line = { timestamp: new Date().toISOString(), level, requestId: state.requestId, tenantId: state.tenantId };
  if (values.length === 1) {
    [line.message] = values;
    try {
      return JSON.stringify(line, (_, value) => (value instanceof Error ? { ...errorFields(value), ...value } : value));
    } catch {
      line.message = util.format(values[0]);
      return JSON.stringify(line);
    }
  }
  line.message = util.format(...values);
  const error = values.find((value) => value instanceof Error);
  return JSON.stringify(error ? Object.assign(line, errorFields(error)) : line);
}

function textLine(state, level, values) {
  return `${new Date().toISOString()}\t${state.requestId}\t${level}\t${util.format(...values)}`;
}

// An error's own fields, which `JSON.stringify` leaves out.
function withFields(value) {
  if (!(value instanceof Error)) return value;
  const fields = { errorType: value.name, errorMessage: value.message, code: value.code, ...value };
  if (typeof value.stack === 'string') fields.stack = value.stack.split('\n');
  return fields;
}

// Patches the console; gives what logs a failure. `state.requestId` is what the lines carry.
exports.patch = function patch(state, describe) {
  const asJson = (process.env.AWS_LAMBDA_LOG_FORMAT || '').toUpperCase() === 'JSON';
  const format = asJson ? jsonLine : textLine;
  const least = Math.max(0, LEVELS.indexOf((process.env.AWS_LAMBDA_LOG_LEVEL || '').toUpperCase()));
  const logger = (level) => {
    if (LEVELS.indexOf(level) < least) return () => {};
    return (...values) => write(format(state, level, values.length ? values : [undefined]).replace(/\n/g, '\r') + '\n');
  };
  console.trace = logger('TRACE');
  console.debug = logger('DEBUG');
  console.info = logger('INFO');
  console.log = console.info;
  console.warn = logger('WARN');
  console.error = logger('ERROR');
  console.fatal = logger('FATAL');
  return (title, reason) => {
    const error = reason instanceof Error ? reason : new Error(promisesOnly ? String(reason) : reason);
    if (asJson) return console.error(error);
    let text;
    try {
      text = JSON.stringify(error, (_, value) => withFields(value));
    } catch {
      text = JSON.stringify(describe(error));
    }
    return console.error(title, `\t${text}`);
  };
};
