//! A function on AWS's `lambda_runtime` crate: what it does stands in the event's field `do`, and in the variable `FAIL`
//! for its start.

use std::time::{SystemTime, UNIX_EPOCH};

use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Request {
    #[serde(rename = "do")]
    deed: String,
    #[serde(default)]
    value: Value,
}

/// What the runtime told of this invocation.
#[derive(Serialize)]
struct Told {
    request_id: String,
    arn: String,
    name: String,
    memory: i32,
    version: String,
    left_ms: i128,
    client_context: Value,
    trace: Option<String>,
}

/// What went wrong, by a name of the function's own.
fn failure(kind: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic { error_type: kind.to_owned(), error_message: message.into() }
}

async fn handle(event: LambdaEvent<Request>) -> Result<Value, Diagnostic> {
    let LambdaEvent { payload, context } = event;
    match payload.deed.as_str() {
        "echo" => Ok(payload.value),
        "tell" => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis();
            let told = Told {
                left_ms: i128::from(context.deadline) - now as i128,
                client_context: json!(context.client_context),
                request_id: context.request_id,
                arn: context.invoked_function_arn,
                name: context.env_config.function_name.clone(),
                memory: context.env_config.memory,
                version: context.env_config.version.clone(),
                trace: context.xray_trace_id,
            };
            Ok(json!(told))
        }
        "fail" => Err(failure("OutOfStock", "0 left")),
        "panic" => panic!("on purpose"),
        other => Err(failure("NoSuchDeed", other)),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    if let Ok(reason) = std::env::var("FAIL") {
        return Err(reason.into());
    }
    println!("a Rust function starts");
    run(service_fn(handle)).await
}
