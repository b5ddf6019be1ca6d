'use strict';
// Errors of the runtime's own, by AWS's names, and how an error becomes the JSON that the caller gets.

const fs = require('fs');

// The release from which AWS's runtime is another program: without callback-style handlers and the context's functions
// for them, and with other ways to report what went wrong.
const PROMISES_ONLY = 24;

exports.promisesOnly = Number(process.versions.node.split('.')[0]) >= PROMISES_ONLY;

// Where the name is kept shows in the log: from then on, it is a field of the error.
function kind(name) {
  class RuntimeFault extends Error {
    constructor(message) {
      super(message);
      if (exports.promisesOnly) this.name = `Runtime.${name}`;
    }
  }
  RuntimeFault.prototype.name = `Runtime.${name}`;
  return RuntimeFault;
}

exports.ImportModuleError = kind('ImportModuleError');
exports.HandlerNotFound = kind('HandlerNotFound');
exports.MalformedHandlerName = kind('MalformedHandlerName');
exports.UserCodeSyntaxError = kind('UserCodeSyntaxError');
exports.MalformedStreamingHandler = kind('MalformedStreamingHandler');
exports.CallbackHandlerDeprecated = kind('CallbackHandlerDeprecated');
exports.JSONStringifyError = kind('JSONStringifyError');
exports.UnhandledPromiseRejection = class extends kind('UnhandledPromiseRejection') {
  constructor(reason, promise) {
    super(reason);
    this.reason = reason;
    this.promise = promise;
  }
};

const isError = (value) => value instanceof Error || (!exports.promisesOnly &&
  [value?.name, value?.message, value?.stack].every((field) => field && typeof field === 'string'));

// A character that AWS's own way of transport does not carry.
const escapeDelete = (text) => text?.replace(/\x7F/g, '%7F');

// What AWS's runtime carries, and ours once it was fetched.
const SDK_IS_MISSING = /Cannot find (?:module|package) '@(?:aws-sdk|smithy)\//;

function advice(error) {
  if (!/MODULE_NOT_FOUND|ImportModuleError/.test(`${error.code} ${error.name}`) || !SDK_IS_MISSING.test(error.message)) return '';
  if (fs.existsSync('/var/runtime/node_modules/@aws-sdk')) {
    return "\nThe runtime's AWS SDK does not have it on this machine: put it into the function's package.";
  }
  const release = process.versions.node.split('.')[0];
  const command = `freehold runtimes install nodejs${release}.x`;
  return `\nThe runtime's AWS SDK is not on this machine: run \`${command}\`, or put it into the function's package.`;
}

exports.describe = function describe(error) {
  try {
    if (!isError(error)) return { errorType: typeof error, errorMessage: String(error), trace: [] };
    return {
      errorType: escapeDelete(error.name),
      errorMessage: escapeDelete(error.message + advice(error)),
      trace: escapeDelete(error.stack)?.split('\n') ?? [],
    };
  } catch {
    return { errorType: 'handled', errorMessage: 'the error could not be described', trace: [] };
  }
};
