'use strict';
// `awslambda.InvokeStore` of AWS's runtime: where libraries that are not given the context (the SDK, loggers) find the current
// event's ids, and keep values for as long as it lasts. An environment has one event at a time, so one is enough.

const REQUEST_ID = Symbol.for('_AWS_LAMBDA_REQUEST_ID');
const TRACE_ID = Symbol.for('_AWS_LAMBDA_X_RAY_TRACE_ID');
const TENANT_ID = Symbol.for('_AWS_LAMBDA_TENANT_ID');
const PROTECTED = new Set([REQUEST_ID, TRACE_ID, TENANT_ID]);

exports.InvokeStore = class InvokeStore {
  #values;

  // Calls `action` with the ids of the event whose context this is.
  run(context, action) {
    this.#values = {
      [REQUEST_ID]: context.awsRequestId, [TRACE_ID]: context.xRayTraceId, [TENANT_ID]: context.tenantId,
    };
    return action();
  }

  getContext() {
    return this.#values;
  }

  hasContext() {
    return this.#values !== undefined;
  }

  get(key) {
    return this.#values?.[key];
  }

  set(key, value) {
    if (PROTECTED.has(key)) throw new Error(`Cannot modify protected Lambda context field: ${String(key)}`);
    this.#values ??= {};
    this.#values[key] = value;
  }

  getRequestId() {
    return this.get(REQUEST_ID) ?? '-';
  }

  getXRayTraceId() {
    return this.get(TRACE_ID);
  }

  getTenantId() {
    return this.get(TENANT_ID);
  }
};
