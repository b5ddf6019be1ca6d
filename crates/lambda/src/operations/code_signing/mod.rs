//! Code signing: the configurations themselves, and which functions are deployed by them.

mod configs;
mod functions;

use freehold_wire::service::Call;
use freehold_wire::service::Verb::{Delete, Get, Post, Put};

use super::entry::{Entry, FUNCTION, change, read};
use crate::error::LambdaError;
use crate::signing::SigningId;

/// The resource of an operation on the configuration in its path.
const CONFIG: &str = "code-signing-config:{CodeSigningConfigArn}";
/// Where the configurations are.
const CONFIGS_PATH: &str = "/2020-04-22/code-signing-configs";
/// Where one is.
const CONFIG_PATH: &str = "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}";
/// Where a function's is.
const FUNCTION_PATH: &str = "/2020-06-30/functions/{FunctionName}/code-signing-config";

/// This group's rows of the table.
pub(super) const ENTRIES: &[Entry] = &[
    change(
        "CreateCodeSigningConfig",
        "lambda:CreateCodeSigningConfig",
        Post,
        CONFIGS_PATH,
        "*",
        |lambda, call| Box::pin(configs::create_code_signing_config(lambda, call)),
    ),
    read("GetCodeSigningConfig", "lambda:GetCodeSigningConfig", Get, CONFIG_PATH, CONFIG, |lambda, call| {
        Box::pin(configs::get_code_signing_config(lambda, call))
    }),
    read(
        "ListCodeSigningConfigs",
        "lambda:ListCodeSigningConfigs",
        Get,
        CONFIGS_PATH,
        "*",
        |lambda, call| Box::pin(configs::list_code_signing_configs(lambda, call)),
    ),
    change(
        "UpdateCodeSigningConfig",
        "lambda:UpdateCodeSigningConfig",
        Put,
        CONFIG_PATH,
        CONFIG,
        |lambda, call| Box::pin(configs::update_code_signing_config(lambda, call)),
    ),
    change(
        "DeleteCodeSigningConfig",
        "lambda:DeleteCodeSigningConfig",
        Delete,
        CONFIG_PATH,
        CONFIG,
        |lambda, call| Box::pin(configs::delete_code_signing_config(lambda, call)),
    ),
    read(
        "ListFunctionsByCodeSigningConfig",
        "lambda:ListFunctionsByCodeSigningConfig",
        Get,
        "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}/functions",
        CONFIG,
        |lambda, call| Box::pin(functions::list_functions_by_code_signing_config(lambda, call)),
    ),
    change(
        "PutFunctionCodeSigningConfig",
        "lambda:PutFunctionCodeSigningConfig",
        Put,
        FUNCTION_PATH,
        FUNCTION,
        |lambda, call| Box::pin(functions::put_function_code_signing_config(lambda, call)),
    ),
    read(
        "GetFunctionCodeSigningConfig",
        "lambda:GetFunctionCodeSigningConfig",
        Get,
        FUNCTION_PATH,
        FUNCTION,
        |lambda, call| Box::pin(functions::get_function_code_signing_config(lambda, call)),
    ),
    change(
        "DeleteFunctionCodeSigningConfig",
        "lambda:DeleteFunctionCodeSigningConfig",
        Delete,
        FUNCTION_PATH,
        FUNCTION,
        |lambda, call| Box::pin(functions::delete_function_code_signing_config(lambda, call)),
    ),
];

/// The configuration in the path.
fn config_of(call: &Call) -> Result<SigningId, LambdaError> {
    let arn = call.labels.get("CodeSigningConfigArn").map_or("", String::as_str);
    SigningId::of(call, arn)?.ok_or_else(|| LambdaError::NoSuchSigning(arn.to_owned()))
}
