//! What Node.js functions see and what comes of them, on every Node.js that this host has.
#![allow(clippy::unwrap_used)]

mod support;

use freehold_runtimes::catalog::{Family, Installed};
use serde_json::{Value, json};
use support::{Files, Session, installed};

fn each(check: impl Fn(&Installed)) {
    for found in installed(Family::Node) {
        check(found);
    }
}

/// From nodejs24.x on, AWS's runtime knows only handlers that give their answer or a promise of it.
fn promises_only(found: &Installed) -> bool {
    !matches!(found.runtime.id, "nodejs20.x" | "nodejs22.x")
}

/// Those whose handlers may end in any style.
fn each_with_callbacks(check: impl Fn(&Installed)) {
    each(|found| {
        if !promises_only(found) {
            check(found);
        }
    });
}

fn start(found: &Installed, handler: &str) -> Session {
    Session::start(found, &[("m.js", &format!("exports.h = {handler};\n"))], "m.h")
}

#[test]
fn answers_and_keeps_its_state() {
    each(|found| {
        let code = "let count = 0;\nexports.h = async (event) => ({ name: event.name, count: ++count });\n";
        let mut session = Session::start(found, &[("m.js", code)], "m.h");
        for count in 1..=3 {
            let posted = session.event(r#"{"name": "Alice"}"#);
            assert_eq!(posted.what, "response");
            assert_eq!(posted.text(), format!(r#"{{"name":"Alice","count":{count}}}"#));
            assert_eq!(posted.headers["content-type"], "application/json");
        }
    });
}

#[test]
fn writes_values_as_aws_does() {
    let cases = [
        ("undefined", "null"),
        ("null", "null"),
        ("[NaN, Infinity, undefined]", "[null,null,null]"),
        ("({ a: undefined, d: new Date(0) })", r#"{"d":"1970-01-01T00:00:00.000Z"}"#),
        ("'日本😀\\u2028'", "\"日本😀\u{2028}\""),
    ];
    each(|found| {
        for (expression, text) in cases {
            let mut session = start(found, &format!("async () => {expression}"));
            assert_eq!(session.event(r#""é""#).text(), text, "{expression}");
        }
        // As the native part of AWS's client refuses what `JSON.stringify` leaves out.
        let fault = start(found, "async () => () => 1").event("1").json();
        assert_eq!(
            (&fault["errorType"], &fault["errorMessage"]),
            (&"TypeError".into(), &"Wrong arguments".into())
        );
        let kind = if promises_only(found) { "Runtime.JSONStringifyError" } else { "Error" };
        for expression in ["1n", "(() => { const a = {}; a.a = a; return a; })()"] {
            let mut session = start(found, &format!("async () => {expression}"));
            let fault = session.event("1").json();
            assert_eq!(
                (&fault["errorType"], &fault["errorMessage"]),
                (&json!(kind), &json!("Unable to stringify response body"))
            );
        }
    });
}

/// Files, handler and answer.
const FORMS: &[(Files, &str, &str)] = &[
    (&[("m.mjs", "export const h = async () => 'mjs';")], "m.h", "mjs"),
    (&[("m.cjs", "exports.h = async () => 'cjs';")], "m.h", "cjs"),
    (
        &[("m.js", "export const h = async () => 'type';"), ("package.json", r#"{"type": "module"}"#)],
        "m.h",
        "type",
    ),
    (
        &[("a/m.js", "export const h = async () => 'above';"), ("package.json", r#"{"type": "module"}"#)],
        "a/m.h",
        "above",
    ),
    (
        &[("m.mjs", "const x = await Promise.resolve('await'); export const h = async () => x;")],
        "m.h",
        "await",
    ),
    (&[("a/b/m.js", "exports.h = async () => 'folders';")], "a/b/m.h", "folders"),
    (&[("m.js", "exports.a = { b: async () => 'nested' };")], "m.a.b", "nested"),
    (&[("m/index.js", "exports.h = async () => 'index';")], "m.h", "index"),
    (&[("node_modules/m/index.js", "exports.h = async () => 'package';")], "m.h", "package"),
    (
        &[("m.js", "exports.h = async () => require('x');"), ("node_modules/x.js", "module.exports = 'x';")],
        "m.h",
        "x",
    ),
];

#[test]
fn loads_modules_of_every_form() {
    each(|found| {
        for (files, handler, answer) in FORMS {
            let mut session = Session::start(found, files, handler);
            assert_eq!(session.event("1").json(), json!(answer), "{}", session.log());
        }
    });
}

/// Files, handler, `errorType`, and how `errorMessage` begins.
const BROKEN: &[(Files, &str, &str, &str)] = &[
    (&[], "m.h", "Runtime.ImportModuleError", "Error: Cannot find module 'm'\nRequire stack:"),
    (
        &[("m.js", "require('nosuch')")],
        "m.h",
        "Runtime.ImportModuleError",
        "Error: Cannot find module 'nosuch'",
    ),
    (&[("m.mjs", "import 'nosuch'")], "m.h", "Error", "Cannot find package 'nosuch' imported from"),
    (&[("m.js", "")], "m.h", "Runtime.HandlerNotFound", "m.h is undefined or not exported"),
    (&[("m.js", "exports.h = 1")], "m.h", "Runtime.HandlerNotFound", "m.h is not a function"),
    (&[("m.js", "")], "m", "Runtime.MalformedHandlerName", "Bad handler"),
    (&[("m.js", "")], "../m.h", "Runtime.MalformedHandlerName", "'../m.h' is not a valid handler name"),
    (
        &[("m.js", "exports.h = = 1")],
        "m.h",
        "Runtime.UserCodeSyntaxError",
        "SyntaxError: Unexpected token '='",
    ),
    (&[("m.mjs", "export h = = 1")], "m.h", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
    (&[("m.js", "throw new TypeError('init')")], "m.h", "TypeError", "init"),
    (&[("m.mjs", "await Promise.reject(new TypeError('init'))")], "m.h", "TypeError", "init"),
    (
        &[("m.js", "exports.h = awslambda.streamifyResponse(async () => {})")],
        "m.h",
        "Runtime.MalformedStreamingHandler",
        "awslambda.streamifyResponse: Freehold does not stream responses yet.",
    ),
];

#[test]
fn reports_what_does_not_come_up() {
    each(|found| {
        let (status, title) =
            if promises_only(found) { (1, "Init Error") } else { (129, "Uncaught Exception") };
        for (files, handler, kind, message) in BROKEN {
            let mut session = Session::start(found, files, handler);
            let posted = session.init_error();
            let fault = posted.json();
            assert_eq!(fault["errorType"], *kind, "{fault}");
            assert!(fault["errorMessage"].as_str().unwrap().starts_with(message), "{fault}");
            assert!(fault["trace"].is_array());
            assert_eq!(posted.headers["lambda-runtime-function-error-type"], *kind);
            assert_eq!(session.exit().code(), Some(status), "{handler}");
            assert!(
                session.log().contains(&format!("\tERROR\t{title} \t{{\"errorType\":\"{kind}\"")),
                "{}",
                session.log()
            );
        }
    });
}

#[test]
fn describes_exceptions_and_goes_on() {
    let handler = "async (event) => { if (event === 'ok') return 1; const e = new RangeError('bad\\nline'); e.code = 7; throw e; }";
    each(|found| {
        let mut session = start(found, handler);
        let posted = session.event("1");
        let fault = posted.json();
        assert_eq!(posted.what, "error");
        assert_eq!(
            (&fault["errorType"], &fault["errorMessage"]),
            (&json!("RangeError"), &json!("bad\nline"))
        );
        assert_eq!((&fault["trace"][0], &fault["trace"][1]), (&json!("RangeError: bad"), &json!("line")));
        assert!(session.inside(fault["trace"][2].as_str().unwrap()).contains("/var/task/m.js:1:"), "{fault}");
        assert_eq!(posted.headers["lambda-runtime-function-error-type"], "RangeError");
        let log = session.log();
        let line = "\trequest-1\tERROR\tInvoke Error \t{\"errorType\":\"RangeError\",\"errorMessage\":\"bad\\nline\",\"code\":7,";
        assert!(log.contains(line) && log.ends_with("]}\n"), "{log}");
        assert_eq!(session.event(r#""ok""#).text(), "1");
        let mut session = start(found, "async () => { throw 'text'; }");
        assert_eq!(session.event("1").text(), r#"{"errorType":"string","errorMessage":"text","trace":[]}"#);
    });
}

/// Handlers up to nodejs22.x that end by callback, by the context, or by having nothing left to do; and their answers.
const STYLES: &[(&str, &str)] = &[
    ("(e, c, callback) => callback(null, 1)", "1"),
    ("(e, c, callback) => { callback(null, 1); callback(null, 2); }", "1"),
    ("(e, c, callback) => { setTimeout(() => callback(null, 'later'), 5); }", r#""later""#),
    (
        "(e, c, callback) => { let x = 1; setTimeout(() => { x = 2; }, 5); callback(null, { get x() { return x; } }); }",
        r#"{"x":2}"#,
    ),
    (
        "(e, c, callback) => { c.callbackWaitsForEmptyEventLoop = false; setInterval(() => {}, 1000); callback(null, 3); }",
        "3",
    ),
    ("(e, c) => c.succeed(4)", "4"),
    ("(e, c) => c.done(null, 5)", "5"),
    ("() => 6", "null"),
    ("() => { setTimeout(() => {}, 5); }", "null"),
    ("() => new Promise(() => {})", "null"),
];

#[test]
fn handlers_may_end_in_any_style() {
    each_with_callbacks(|found| {
        for (handler, answer) in STYLES {
            let mut session = start(found, handler);
            for _ in 0..2 {
                let posted = session.event("1");
                assert_eq!((posted.what.as_str(), posted.text()), ("response", *answer), "{handler}");
            }
        }
        for handler in [
            "(e, c, callback) => callback(new Error('x'))",
            "(e, c) => c.fail(new Error('x'))",
            "(e, c) => c.done(new Error('x'))",
            "() => { throw new Error('x'); }",
        ] {
            let mut session = start(found, handler);
            for _ in 0..2 {
                let posted = session.event("1");
                assert_eq!(
                    (posted.what.as_str(), &posted.json()["errorMessage"]),
                    ("error", &json!("x")),
                    "{handler}"
                );
            }
        }
    });
}

#[test]
fn from_24_on_there_are_only_promises() {
    each(|found| {
        if !promises_only(found) {
            return;
        }
        let mut session = start(found, "async (event, context, callback) => 1");
        assert_eq!(session.init_error().json()["errorType"], "Runtime.CallbackHandlerDeprecated");
        assert_eq!(session.exit().code(), Some(1));
        let mut session = start(
            found,
            "(event, context) => [typeof context.done, 'callbackWaitsForEmptyEventLoop' in context]",
        );
        assert_eq!(session.event("1").text(), r#"["undefined",false]"#);
        let mut session = start(found, "() => new Promise(() => {})");
        session.give(b"1", &[]);
        assert_eq!(session.exit().code(), Some(0));
        let mut session = start(
            found,
            "async () => { setTimeout(() => { throw new Error('late'); }); await new Promise(() => {}); }",
        );
        session.give(b"1", &[]);
        assert_eq!(session.exit().code(), Some(1));
    });
}

#[test]
fn what_is_left_uncaught_is_the_event_s_failure_and_the_end() {
    each_with_callbacks(|found| {
        let mut session = start(found, "() => { setTimeout(() => { throw new TypeError('late'); }, 1); }");
        let posted = session.event("1");
        assert_eq!((posted.what.as_str(), &posted.json()["errorType"]), ("error", &json!("TypeError")));
        assert_eq!(session.exit().code(), Some(129));
        assert!(session.log().contains("\tERROR\tUncaught Exception \t{\"errorType\":\"TypeError\""));

        let mut session = start(
            found,
            "async () => { Promise.reject(new Error('lost')); await new Promise((r) => setTimeout(r, 500)); }",
        );
        let fault = session.event("1").json();
        assert_eq!(fault["errorType"], "Runtime.UnhandledPromiseRejection");
        assert_eq!(fault["errorMessage"], "Error: lost");
        assert_eq!(session.exit().code(), Some(128));
        assert!(session.log().contains("\tERROR\tUnhandled Promise Rejection \t"), "{}", session.log());
    });
}

#[test]
fn leaving_ends_the_process_with_the_function_s_status() {
    each(|found| {
        let mut session = start(found, "async () => { console.log('last'); process.exit(3); }");
        session.give(b"1", &[]);
        assert_eq!(session.exit().code(), Some(3));
        assert!(session.log().ends_with("\tINFO\tlast\n"));
        let mut session = Session::start(found, &[("m.js", "process.exit(4)")], "m.h");
        assert_eq!(session.exit().code(), Some(4));
    });
}

/// The lines of a log without their times.
fn lines(log: &str) -> Vec<String> {
    log.lines()
        .map(|line| {
            let (time, rest) = line.split_once('\t').unwrap_or_else(|| panic!("{line:?}"));
            assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{line:?}");
            rest.to_owned()
        })
        .collect()
}

#[test]
fn the_console_has_aws_s_format() {
    let code = "console.log('init');\nexports.h = async () => {\n  console.log('a %s', 1, { b: 2 });\n  \
                console.error('two\\nlines');\n  console.warn();\n  console.debug('d');\n  console.trace('t');\n};\n";
    each(|found| {
        let mut session = Session::start(found, &[("m.js", code)], "m.h");
        session.event("1");
        let before = if promises_only(found) { "-" } else { "undefined" };
        assert_eq!(
            lines(&session.log()),
            [
                format!("{before}\tINFO\tinit"),
                "request-1\tINFO\ta 1 { b: 2 }".into(),
                "request-1\tERROR\ttwo\rlines".into(),
                "request-1\tWARN\tundefined".into(),
                "request-1\tDEBUG\td".into(),
                "request-1\tTRACE\tt".into(),
            ]
        );
    });
}

#[test]
fn the_console_can_write_json() {
    let code = "exports.h = async () => { console.log('a', 1); console.debug('unseen'); console.error(new TypeError('x')); \
                console.warn('m', new Error('y')); console.info({ k: [1] }); };";
    let variables = [("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("AWS_LAMBDA_LOG_LEVEL", "INFO")];
    each(|found| {
        let mut session = Session::start_with(found, &[("m.js", code)], "m.h", &variables);
        session.event("1");
        let lines: Vec<Value> =
            session.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!((&lines[0]["message"], &lines[0]["level"]), (&json!("a 1"), &json!("INFO")));
        assert_eq!(lines[0]["requestId"], "request-1");
        assert_eq!(lines[1]["message"]["errorType"], "TypeError");
        assert_eq!((&lines[2]["errorMessage"], &lines[2]["level"]), (&json!("y"), &json!("WARN")));
        assert_eq!(lines[3]["message"], json!({"k": [1]}));
        assert_eq!(lines[0].get("tenantId"), None);
        session.event_with(b"1", &[("Lambda-Runtime-Aws-Tenant-Id", "blue")]);
        let log = session.log();
        let line = log.lines().find(|line| line.contains("request-2")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["tenantId"], "blue", "{log}");
    });
}

#[test]
fn what_is_written_is_out_before_the_answer() {
    let handler =
        "async () => { process.stdout.write('x'.repeat(200000) + '\\n'); console.log('y'.repeat(200000)); }";
    each(|found| {
        let mut session = start(found, handler);
        session.event("1");
        let log = session.log();
        assert!(log.contains(&"x".repeat(200_000)) && log.contains(&"y".repeat(200_000)));
    });
}

#[test]
fn the_context_has_all_that_aws_s_has() {
    let handler = "async (event, c) => [c.functionName, c.functionVersion, c.memoryLimitInMB, c.awsRequestId, c.logGroupName, \
                   c.logStreamName, c.invokedFunctionArn, c.identity, c.clientContext, \
                   c.getRemainingTimeInMillis() > 0 && c.getRemainingTimeInMillis() <= 30000, \
                   process.env._X_AMZN_TRACE_ID, process.env.AWS_EXECUTION_ENV, process.cwd() === process.env.LAMBDA_TASK_ROOT, \
                   typeof awslambda.streamifyResponse, typeof gc]";
    each(|found| {
        let mut session = start(found, handler);
        let headers = [
            ("Lambda-Runtime-Client-Context", r#"{"custom":{"ä":1}}"#),
            ("Lambda-Runtime-Cognito-Identity", r#"{"cognitoIdentityId":"i"}"#),
        ];
        let environment = format!("AWS_Lambda_{}", found.runtime.id);
        let expected = json!([
            "hello", "$LATEST", "256", "request-1", "/aws/lambda/hello",
            "2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef",
            "arn:aws:lambda:eu-central-1:000000000000:function:hello",
            {"cognitoIdentityId": "i"}, {"custom": {"ä": 1}}, true, "Root=1-67f;Sampled=0", environment, true,
            "function", "function",
        ]);
        assert_eq!(session.event_with(b"1", &headers).json(), expected);
        let plain = session.event("1").json();
        assert_eq!((&plain[7], &plain[8]), (&Value::Null, &Value::Null));
    });
}

#[test]
fn carries_six_megabytes_both_ways() {
    let event = format!("\"{}\"", "x".repeat(6 * 1024 * 1024 - 2));
    each(|found| {
        let mut session = start(found, "async (event) => event");
        assert!(session.event(&event).text() == event);
        assert_eq!(session.event(r#"{"a""#).json()["errorType"], "SyntaxError");
    });
}

#[test]
fn copes_with_chunks_and_closed_connections() {
    each(|found| {
        let mut session = start(found, "async (event) => event");
        let posted = session.event_with(br#"{"chunked": "event"}"#, &[("Transfer-Encoding", "chunked")]);
        assert_eq!(posted.text(), r#"{"chunked":"event"}"#);
        session.close_connections();
        for number in 0..3 {
            assert_eq!(session.event(&number.to_string()).text(), number.to_string());
        }
    });
}

#[test]
fn es_modules_find_packages_by_node_path_after_the_function_s_own() {
    let package = |text: &str| format!("export default '{text}';\n");
    let manifest = r#"{"type": "module", "exports": {"import": "./it.js"}}"#;
    let (own, first, second) = (package("own"), package("first"), package("second"));
    let code = "import mine from 'mine';\nimport both from 'both';\nimport { late } from './inner/late.mjs';\n\
                export const h = async () => {\n\
                  const missing = await import('nowhere').catch((error) => [error.code, error.message]);\n\
                  return { mine, both, late, missing };\n};\n";
    let files = [
        ("m.mjs", code),
        ("inner/late.mjs", "import text from 'late';\nexport const late = text;\n"),
        ("node_modules/mine/package.json", manifest),
        ("node_modules/mine/it.js", &own),
        ("a/node_modules/mine/package.json", manifest),
        ("a/node_modules/mine/it.js", &first),
        ("a/node_modules/both/package.json", manifest),
        ("a/node_modules/both/it.js", &first),
        ("b/node_modules/both/package.json", manifest),
        ("b/node_modules/both/it.js", &second),
        ("b/node_modules/late/package.json", manifest),
        ("b/node_modules/late/it.js", &second),
    ];
    let path =
        [("NODE_PATH", "/var/task/a/node_modules:/var/task/nowhere/node_modules:/var/task/b/node_modules")];
    each(|found| {
        let told = Session::start_with(found, &files, "m.h", &path).event("1").json();
        let expected = json!({"mine": "own", "both": "first", "late": "second"});
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&told[name], value, "{told}");
        }
        assert_eq!(told["missing"][0], "ERR_MODULE_NOT_FOUND", "{told}");
        // As it is without any path: told of the module that imports it.
        assert!(told["missing"][1].as_str().unwrap().contains("/m.mjs"), "{told}");
    });
}
