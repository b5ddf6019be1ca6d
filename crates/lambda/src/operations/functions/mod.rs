//! Functions: created, read, changed, listed, deleted.

mod create;
mod delete;
mod download_package;
mod get;
mod list;
mod update_code;
mod update_configuration;

pub(crate) use download_package::Downloads;

use freehold_wire::service::Verb::{Delete, Get, Post, Put};

use super::entry::{Entry, FUNCTION, PACKAGE_BODY_BYTES, change, read};

/// This group's rows of the table.
pub(super) const ENTRIES: &[Entry] = &[
    // The name is in the body.
    change(
        "CreateFunction",
        "lambda:CreateFunction",
        Post,
        "/2015-03-31/functions",
        "function:*",
        |lambda, call| Box::pin(create::create_function(lambda, call)),
    )
    .with_body_limit(PACKAGE_BODY_BYTES),
    read(
        "GetFunction",
        "lambda:GetFunction",
        Get,
        "/2015-03-31/functions/{FunctionName}",
        FUNCTION,
        |lambda, call| Box::pin(get::get_function(lambda, call)),
    ),
    read(
        "GetFunctionConfiguration",
        "lambda:GetFunctionConfiguration",
        Get,
        "/2015-03-31/functions/{FunctionName}/configuration",
        FUNCTION,
        |lambda, call| Box::pin(get::get_function_configuration(lambda, call)),
    ),
    read("ListFunctions", "lambda:ListFunctions", Get, "/2015-03-31/functions", "*", |lambda, call| {
        Box::pin(list::list_functions(lambda, call))
    }),
    change(
        "UpdateFunctionCode",
        "lambda:UpdateFunctionCode",
        Put,
        "/2015-03-31/functions/{FunctionName}/code",
        FUNCTION,
        |lambda, call| Box::pin(update_code::update_function_code(lambda, call)),
    )
    .with_body_limit(PACKAGE_BODY_BYTES),
    change(
        "UpdateFunctionConfiguration",
        "lambda:UpdateFunctionConfiguration",
        Put,
        "/2015-03-31/functions/{FunctionName}/configuration",
        FUNCTION,
        |lambda, call| Box::pin(update_configuration::update_function_configuration(lambda, call)),
    ),
    change(
        "DeleteFunction",
        "lambda:DeleteFunction",
        Delete,
        "/2015-03-31/functions/{FunctionName}",
        FUNCTION,
        |lambda, call| Box::pin(delete::delete_function(lambda, call)),
    ),
    read(
        "DownloadPackage",
        "lambda:GetFunction",
        Get,
        "/freehold/packages/{Package}",
        "*",
        |lambda, call| Box::pin(download_package::download_package(lambda, call)),
    ),
];
