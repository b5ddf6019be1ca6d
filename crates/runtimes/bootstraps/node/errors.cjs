'use strict';
// Errors of the runtime's own, by AWS's names, and how an error becomes the JSON that the caller gets.

function kind(name) {
  return class extends Error {
    constructor(message) {
      super(message);
      this.name = `Runtime.${name}`;
    }
  };
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

const isError = (value) => value instanceof Error ||
  [value?.name, value?.message, value?.stack].every((field) => field && typeof field === 'string');

// A character that AWS's own way of transport does not carry.
const escapeDelete = (text) => text?.replace(/\x7F/g, '%7F');

exports.describe = function describe(error) {
  try {
    if (!isError(error)) return { errorType: typeof error, errorMessage: String(error), trace: [] };
    return {
      errorType: escapeDelete(error.name),
      errorMessage: escapeDelete(error.message),
      trace: escapeDelete(error.stack)?.split('\n') ?? [],
    };
  } catch {
    return { errorType: 'handled', errorMessage: 'the error could not be described', trace: [] };
  }
};
