//! The operations that AWS's Lambda has and this service has not (yet): name, method and path, as in AWS's model. The
//! gateway names them in its refusal; an operation that is written moves from here to the table in the parent.

use freehold_wire::service::{KnownOperation, Route, Verb};

use Verb::{Delete, Get, Post, Put};

const fn operation(name: &'static str, verb: Verb, path: &'static str) -> KnownOperation {
    KnownOperation { name, route: Route::Rest(verb, path) }
}

/// What is missing.
pub(super) const KNOWN: &[KnownOperation] = &[
    operation(
        "CheckpointDurableExecution",
        Post,
        "/2025-12-01/durable-executions/{DurableExecutionArn}/checkpoint",
    ),
    operation("CreateCapacityProvider", Post, "/2025-11-30/capacity-providers"),
    operation("CreateEventSourceMapping", Post, "/2015-03-31/event-source-mappings"),
    operation("CreateFunctionUrlConfig", Post, "/2021-10-31/functions/{FunctionName}/url"),
    operation("DeleteCapacityProvider", Delete, "/2025-11-30/capacity-providers/{CapacityProviderName}"),
    operation("DeleteDurableExecution", Delete, "/2025-12-01/durable-executions/{DurableExecutionArn}"),
    operation("DeleteEventSourceMapping", Delete, "/2015-03-31/event-source-mappings/{UUID}"),
    operation(
        "DeleteFunctionEventInvokeConfig",
        Delete,
        "/2019-09-25/functions/{FunctionName}/event-invoke-config",
    ),
    operation("DeleteFunctionUrlConfig", Delete, "/2021-10-31/functions/{FunctionName}/url"),
    operation("GetCapacityProvider", Get, "/2025-11-30/capacity-providers/{CapacityProviderName}"),
    operation("GetDurableExecution", Get, "/2025-12-01/durable-executions/{DurableExecutionArn}"),
    operation(
        "GetDurableExecutionHistory",
        Get,
        "/2025-12-01/durable-executions/{DurableExecutionArn}/history",
    ),
    operation("GetDurableExecutionState", Get, "/2025-12-01/durable-executions/{DurableExecutionArn}/state"),
    operation("GetEventSourceMapping", Get, "/2015-03-31/event-source-mappings/{UUID}"),
    operation(
        "GetFunctionEventInvokeConfig",
        Get,
        "/2019-09-25/functions/{FunctionName}/event-invoke-config",
    ),
    operation(
        "GetFunctionScalingConfig",
        Get,
        "/2025-11-30/functions/{FunctionName}/function-scaling-config",
    ),
    operation("GetFunctionUrlConfig", Get, "/2021-10-31/functions/{FunctionName}/url"),
    operation("InvokeAsync", Post, "/2014-11-13/functions/{FunctionName}/invoke-async"),
    operation(
        "InvokeWithResponseStream",
        Post,
        "/2021-11-15/functions/{FunctionName}/response-streaming-invocations",
    ),
    operation("ListCapacityProviders", Get, "/2025-11-30/capacity-providers"),
    operation(
        "ListDurableExecutionsByFunction",
        Get,
        "/2025-12-01/functions/{FunctionName}/durable-executions",
    ),
    operation("ListEventSourceMappings", Get, "/2015-03-31/event-source-mappings"),
    operation(
        "ListFunctionEventInvokeConfigs",
        Get,
        "/2019-09-25/functions/{FunctionName}/event-invoke-config/list",
    ),
    operation("ListFunctionUrlConfigs", Get, "/2021-10-31/functions/{FunctionName}/urls"),
    operation(
        "ListFunctionVersionsByCapacityProvider",
        Get,
        "/2025-11-30/capacity-providers/{CapacityProviderName}/function-versions",
    ),
    operation("PauseDurableExecution", Post, "/2025-12-01/durable-executions/{DurableExecutionArn}/pause"),
    operation(
        "PutFunctionEventInvokeConfig",
        Put,
        "/2019-09-25/functions/{FunctionName}/event-invoke-config",
    ),
    operation(
        "PutFunctionScalingConfig",
        Put,
        "/2025-11-30/functions/{FunctionName}/function-scaling-config",
    ),
    operation("ResumeDurableExecution", Post, "/2025-12-01/durable-executions/{DurableExecutionArn}/resume"),
    operation(
        "SendDurableExecutionCallbackFailure",
        Post,
        "/2025-12-01/durable-execution-callbacks/{CallbackId}/fail",
    ),
    operation(
        "SendDurableExecutionCallbackHeartbeat",
        Post,
        "/2025-12-01/durable-execution-callbacks/{CallbackId}/heartbeat",
    ),
    operation(
        "SendDurableExecutionCallbackSuccess",
        Post,
        "/2025-12-01/durable-execution-callbacks/{CallbackId}/succeed",
    ),
    operation("StopDurableExecution", Post, "/2025-12-01/durable-executions/{DurableExecutionArn}/stop"),
    operation("UpdateCapacityProvider", Put, "/2025-11-30/capacity-providers/{CapacityProviderName}"),
    operation("UpdateEventSourceMapping", Put, "/2015-03-31/event-source-mappings/{UUID}"),
    operation(
        "UpdateFunctionEventInvokeConfig",
        Post,
        "/2019-09-25/functions/{FunctionName}/event-invoke-config",
    ),
    operation("UpdateFunctionUrlConfig", Put, "/2021-10-31/functions/{FunctionName}/url"),
];
