//! What Python functions see and what comes of them, on every Python that this host has.
#![allow(clippy::unwrap_used)]

mod support;

use freehold_runtimes::catalog::{Family, Installed};
use serde_json::{Value, json};
use support::{Files, Session, installed};

/// A function `m.h` with this body, after these lines.
fn function(before: &str, body: &str) -> String {
    let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
    format!("{before}\ndef h(event, context):\n{body}")
}

fn start(found: &Installed, before: &str, body: &str) -> Session {
    Session::start(found, &[("m.py", &function(before, body))], "m.h")
}

/// From 3.12 on, AWS's runtime writes other characters than ASCII as they are.
fn writes_unicode(found: &Installed) -> bool {
    !matches!(found.runtime.id, "python3.10" | "python3.11")
}

fn each(check: impl Fn(&Installed)) {
    for found in installed(Family::Python) {
        check(found);
    }
}

#[test]
fn answers_and_keeps_its_state() {
    each(|found| {
        let mut session = start(
            found,
            "count = 0",
            "global count\ncount += 1\nreturn {'name': event['name'], 'count': count}",
        );
        for count in 1..=3 {
            let posted = session.event(r#"{"name": "Alice"}"#);
            assert_eq!(posted.what, "response");
            assert_eq!(posted.text(), format!(r#"{{"name": "Alice", "count": {count}}}"#));
            assert_eq!(posted.headers["content-type"], "application/json");
        }
    });
}

/// Python expressions and the texts that become of them.
const VALUES: &[(&str, &str)] = &[
    ("None", "null"),
    ("'text'", r#""text""#),
    ("[1, 1.5, True, (), {}]", "[1, 1.5, true, [], {}]"),
    ("{1: 1, 1.5: 2, None: 3, 'a': 4}", r#"{"1": 1, "1.5": 2, "null": 3, "a": 4}"#),
    ("[float('nan'), float('inf'), -float('inf'), 1e100]", "[NaN, Infinity, -Infinity, 1e+100]"),
    ("{'b': b'abc', b'k': 1}", r#"{"b": "abc", "k": 1}"#),
    ("[decimal.Decimal('1.10'), decimal.Decimal('NaN')]", "[1.10, NaN]"),
    (
        "[Point(1, 2), {'p': Point(3, [Point(5, 6)])}]",
        r#"[{"x": 1, "y": 2}, {"p": {"x": 3, "y": [{"x": 5, "y": 6}]}}]"#,
    ),
    ("[Level.HIGH, Colour.RED]", r#"[3, "red"]"#),
    ("Record()", r#"{"a": 1}"#),
    (r#"'\x01\t"\\'"#, r#""\u0001\t\"\\""#),
];

const TYPES: &str = "
import collections, decimal, enum
Point = collections.namedtuple('Point', 'x y')
class Level(enum.IntEnum):
    HIGH = 3
class Colour(str, enum.Enum):
    RED = 'red'
class Record:
    def _asdict(self):
        return {'a': 1}
";

#[test]
fn writes_values_as_aws_does() {
    let expressions: Vec<_> = VALUES.iter().map(|(expression, _)| *expression).collect();
    let values = format!("{TYPES}\nvalues = [lambda: {}]", expressions.join(", lambda: "));
    each(|found| {
        let mut session = start(found, &values, "return values[event]()");
        for (number, (expression, text)) in VALUES.iter().enumerate() {
            let posted = session.event(&number.to_string());
            assert_eq!((posted.what.as_str(), posted.text()), ("response", *text), "{expression}");
        }
        // The plain ones again where no named tuple is known, which takes another way.
        let mut session = start(
            found,
            &values.replace("Point = collections.namedtuple('Point', 'x y')", ""),
            "return values[event]()",
        );
        for (number, (expression, text)) in
            VALUES.iter().enumerate().filter(|(_, value)| !value.0.contains("Point"))
        {
            assert_eq!(session.event(&number.to_string()).text(), *text, "{expression}");
        }
    });
}

#[test]
fn says_what_cannot_be_written() {
    let cases = [
        ("{1, 2}", "Object of type set is not JSON serializable"),
        ("object()", "Object of type object is not JSON serializable"),
        ("{(1, 2): 3}", "keys must be str, int, float, bool or None, not tuple"),
        ("cycle", "Circular reference detected"),
        ("{'b': b'\\xff'}", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ];
    let values: Vec<_> = cases.iter().map(|(expression, _)| *expression).collect();
    let before = format!("cycle = []\ncycle.append({{'a': cycle}})\nvalues = [{}]", values.join(", "));
    each(|found| {
        let mut session = start(found, &before, "return values[event]");
        for (number, (expression, reason)) in cases.iter().enumerate() {
            let posted = session.event(&number.to_string());
            let id = format!("request-{}", number + 1);
            let expected = json!({
                "errorMessage": format!("Unable to marshal response: {reason}"),
                "errorType": "Runtime.MarshalError",
                "requestId": id,
                "stackTrace": [],
            });
            assert_eq!((posted.what.as_str(), posted.json()), ("error", expected), "{expression}");
        }
    });
}

#[test]
fn passes_bytes_and_characters() {
    each(|found| {
        let mut session =
            start(found, "", "return b'\\x00\\xff' if event is None else {event: '\\u2028\\U0001f600'}");
        let posted = session.event(r#""日本語""#);
        if writes_unicode(found) {
            assert_eq!(posted.text(), "{\"日本語\": \"\u{2028}😀\"}");
        } else {
            assert_eq!(posted.text(), r#"{"\u65e5\u672c\u8a9e": "\u2028\ud83d\ude00"}"#);
        }
        let posted = session.event(" null ");
        assert_eq!(posted.body, b"\x00\xff");
        assert_eq!(posted.headers["content-type"], "application/unknown");
    });
}

#[test]
fn describes_exceptions_and_goes_on() {
    let before = "def g():\n    raise ValueError('bad', 3)";
    each(|found| {
        let mut session = start(found, before, "if event == 'ok':\n    return 'fine'\ng()");
        let posted = session.event("1");
        let trace = json!([
            "  File \"/var/task/m.py\", line 6, in h\n    g()\n",
            "  File \"/var/task/m.py\", line 2, in g\n    raise ValueError('bad', 3)\n",
        ]);
        let inside: Value = serde_json::from_str(&session.inside(posted.text())).unwrap();
        let expected = json!({
            "errorMessage": "('bad', 3)", "errorType": "ValueError", "requestId": "request-1", "stackTrace": trace,
        });
        assert_eq!((posted.what.as_str(), inside), ("error", expected));
        assert_eq!(posted.headers["lambda-runtime-function-error-type"], "ValueError");
        assert_eq!(
            session.log(),
            "[ERROR] ValueError: ('bad', 3)\rTraceback (most recent call last):\r\
             \u{a0}\u{a0}File \"/var/task/m.py\", line 6, in h\r\u{a0}\u{a0}\u{a0}\u{a0}g()\r\
             \u{a0}\u{a0}File \"/var/task/m.py\", line 2, in g\r\
             \u{a0}\u{a0}\u{a0}\u{a0}raise ValueError('bad', 3)\n"
        );
        assert_eq!(session.event(r#""ok""#).text(), r#""fine""#);
    });
}

/// Files, handler, `errorType` and `errorMessage` of functions that do not come up.
const BROKEN: &[(Files, &str, &str, &str)] = &[
    (&[], "m.h", "Runtime.ImportModuleError", "Unable to import module 'm': No module named 'm'"),
    (&[], "pkg/m.h", "Runtime.ImportModuleError", "Unable to import module 'pkg/m': No module named 'pkg'"),
    (
        &[("m.py", "import nosuch")],
        "m.h",
        "Runtime.ImportModuleError",
        "Unable to import module 'm': No module named 'nosuch'",
    ),
    (&[("m.py", "")], "m.h", "Runtime.HandlerNotFound", "Handler 'h' missing on module 'm'"),
    (
        &[("m.py", "")],
        "m",
        "Runtime.MalformedHandlerName",
        "Bad handler 'm': not enough values to unpack (expected 2, got 1)",
    ),
    (&[], "sys.h", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"),
    (
        &[("m.py", "def h(event, context):\n    return = 1\n")],
        "m.h",
        "Runtime.UserCodeSyntaxError",
        "Syntax error in module 'm': invalid syntax (m.py, line 2)",
    ),
    (&[("m.py", "raise KeyError('init')")], "m.h", "KeyError", "'init'"),
];

#[test]
fn reports_what_does_not_come_up() {
    each(|found| {
        for (files, handler, kind, message) in BROKEN {
            let mut session = Session::start(found, files, handler);
            let posted = session.init_error();
            let fault = posted.json();
            assert_eq!((&fault["errorType"], &fault["errorMessage"]), (&json!(kind), &json!(message)));
            assert_eq!(fault["requestId"], "");
            assert_eq!(posted.headers["lambda-runtime-function-error-type"], *kind);
            assert_eq!(session.exit().code(), Some(1), "{handler}");
            assert!(session.log().contains(&format!("[ERROR] {kind}: {message}")), "{}", session.log());
        }
    });
}

#[test]
fn a_syntax_error_shows_its_line() {
    each(|found| {
        let mut session = Session::start(found, &[("m.py", "x = 1\ny = = 2\n")], "m.h");
        let trace = session.init_error().json()["stackTrace"].clone();
        let trace = session.inside(trace[0].as_str().unwrap());
        assert_eq!(trace, "  File \"/var/task/m.py\" Line 2\n    y = = 2\n");
    });
}

#[test]
fn finds_handlers_in_folders() {
    let files = [("a/b/m.py", "def h(event, context):\n    return __name__\n")];
    each(|found| {
        for handler in ["a/b/m.h", "a.b.m.h"] {
            let mut session = Session::start(found, &files, handler);
            assert_eq!(session.event("1").text(), r#""a.b.m""#);
        }
    });
}

#[test]
fn leaving_ends_the_process_with_the_function_s_status() {
    each(|found| {
        for (statement, status) in
            [("sys.exit(3)", 3), ("exit()", 0), ("os._exit(7)", 7), ("raise SystemExit(4)", 4)]
        {
            let mut session = start(found, "import os, sys", &format!("print('last')\n{statement}"));
            session.give(b"1", &[]);
            assert_eq!(session.exit().code(), Some(status), "{statement}");
            if statement != "os._exit(7)" {
                assert_eq!(session.log(), "last\n");
            }
        }
        let mut session = Session::start(found, &[("m.py", "import sys\nsys.exit(5)")], "m.h");
        assert_eq!(session.exit().code(), Some(5));
    });
}

#[test]
fn what_is_printed_is_out_before_the_answer() {
    let body = "print('one', 'two')\nprint('part', end='')\nsys.stdout.buffer.write(b'bytes\\n')\n\
                print('error', file=sys.stderr)\nprint('é')";
    each(|found| {
        let mut session = start(found, "import sys\nprint('init')", body);
        session.event("1");
        let log = session.log();
        for text in ["init\n", "one two\n", "part", "bytes\n", "error\n", "é\n"] {
            assert!(log.contains(text), "{text:?} in {log:?}");
        }
    });
}

/// Times in log lines differ from run to run.
fn without_times(log: &str) -> String {
    let mut text = String::new();
    let mut rest = log;
    while let Some(at) = rest.find("202") {
        let end = rest[at..].find('Z').map(|end| at + end);
        let stamp = end.filter(|end| rest[at..*end].contains('T') && end - at <= 23);
        text += &rest[..at];
        rest = match stamp {
            Some(end) => {
                text += "TIME";
                &rest[end..]
            }
            None => {
                text += "202";
                &rest[at + 3..]
            }
        };
    }
    text + rest
}

#[test]
fn logging_has_aws_s_format_and_level() {
    let before = "import logging\nlog = logging.getLogger()\nlog.warning('at init')";
    let body = "log.info('unseen')\nlog.error('one %s', 1)\nlogging.getLogger('other').warning('two')\n\
                log.setLevel('INFO')\nlog.info('seen')\ntry:\n    1 / 0\nexcept Exception:\n    log.exception('boom')";
    each(|found| {
        let mut session = start(found, before, body);
        session.event("1");
        let log = without_times(&session.log());
        let first = "[WARNING]\tTIMEZ\t\tat init\n[ERROR]\tTIMEZ\trequest-1\tone 1\n\
                     [WARNING]\tTIMEZ\trequest-1\ttwo\n[INFO]\tTIMEZ\trequest-1\tseen\n\
                     [ERROR]\tTIMEZ\trequest-1\tboom\rTraceback (most recent call last):\r";
        assert!(log.starts_with(first), "{log:?}");
        assert!(log.ends_with("ZeroDivisionError: division by zero\n"), "{log:?}");
    });
}

#[test]
fn logging_can_be_json() {
    let variables = [("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("AWS_LAMBDA_LOG_LEVEL", "INFO")];
    let code = function(
        "import logging\nlog = logging.getLogger('mine')",
        "log.info('é %s', 1, extra={'k': [1]})\nlog.debug('unseen')\nlog.info({'a': 1})\nraise ValueError('x')",
    );
    each(|found| {
        let mut session = Session::start_with(found, &[("m.py", &code)], "m.h", &variables);
        session.event("1");
        let lines: Vec<Value> = session
            .log()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
            .collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["message"], "é 1");
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["logger"], "mine");
        assert_eq!(lines[0]["requestId"], "request-1");
        assert_eq!(lines[0]["k"], json!([1]));
        assert_eq!(lines[1]["message"], json!({"a": 1}));
        assert_eq!((&lines[2]["level"], &lines[2]["errorType"]), (&json!("ERROR"), &json!("ValueError")));
        assert_eq!(lines[0].get("tenantId"), None);
        session.event_with(b"1", &[("Lambda-Runtime-Aws-Tenant-Id", "blue")]);
        let log = session.log();
        let line = log.lines().find(|line| line.contains("request-2")).expect("a line of the second event");
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["tenantId"], "blue", "{log}");
    });
}

#[test]
fn the_context_has_all_that_aws_s_has() {
    let body = "return [context.function_name, context.function_version, context.memory_limit_in_mb,\n\
                context.aws_request_id, context.log_group_name, context.log_stream_name, context.invoked_function_arn,\n\
                context.identity.cognito_identity_id, context.client_context and context.client_context.custom,\n\
                context.client_context and context.client_context.client.app_title,\n\
                0 < context.get_remaining_time_in_millis() <= 30000, context.tenant_id, context.w3c(),\n\
                os.environ['_X_AMZN_TRACE_ID'], context.log('logged\\n'), repr(context)[:28]]";
    let arn = "arn:aws:lambda:eu-central-1:000000000000:function:hello";
    let stream = "2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef";
    each(|found| {
        let mut session = start(found, "import os", body);
        let client =
            r#"{"custom": {"ä": 1}, "client": {"app_title": "t"}, "w3c": {"traceparent": "p", "x": 1}}"#;
        let identity = r#"{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}"#;
        let headers = [
            ("Lambda-Runtime-Client-Context", client),
            ("Lambda-Runtime-Cognito-Identity", identity),
            ("Lambda-Runtime-Aws-Tenant-Id", "blue"),
        ];
        let posted = session.event_with(b"1", &headers);
        let group = "/aws/lambda/hello";
        let expected = json!([
            "hello", "$LATEST", "256", "request-1", group, stream, arn, "i", {"ä": 1}, "t", true, "blue",
            {"traceparent": "p"}, "Root=1-67f;Sampled=0", null, "LambdaContext([aws_request_i",
        ]);
        assert_eq!(posted.json(), expected);
        assert_eq!(session.log(), "logged\n");
        let plain = session.event("1").json();
        assert_eq!((&plain[7], &plain[8], &plain[12]), (&Value::Null, &Value::Null, &json!({})));
        let posted = session.event_with(b"1", &[("Lambda-Runtime-Client-Context", "{bad")]);
        assert_eq!(posted.json()["errorType"], "Runtime.LambdaContextUnmarshalError");
    });
}

#[test]
fn bad_events_are_the_function_s_failure() {
    each(|found| {
        let mut session = start(found, "", "return event");
        let posted = session.event(r#"{"a":"#);
        let fault = posted.json();
        assert_eq!(fault["errorType"], "Runtime.UnmarshalError");
        assert_eq!(
            fault["errorMessage"],
            "Unable to unmarshal input: Expecting value: line 1 column 6 (char 5)"
        );
        assert_eq!(session.event_with(b"\"\xff\"", &[]).json()["errorType"], "Runtime.UnmarshalError");
        assert_eq!(session.event("1 2").json()["errorType"], "Runtime.UnmarshalError");
        assert_eq!(session.event("  [1] ").text(), "[1]");
    });
}

#[test]
fn carries_six_megabytes_both_ways() {
    let event = format!("\"{}\"", "x".repeat(6 * 1024 * 1024 - 2));
    each(|found| {
        let mut session = start(found, "", "return event");
        assert!(session.event(&event).text() == event);
        assert!(session.event_with(&event.as_bytes()[..1000], &[]).what == "error");
    });
}

#[test]
fn copes_with_chunks_and_closed_connections() {
    each(|found| {
        let mut session = start(found, "", "return event");
        let posted = session.event_with(br#"{"chunked": "event"}"#, &[("Transfer-Encoding", "chunked")]);
        assert_eq!(posted.text(), r#"{"chunked": "event"}"#);
        session.close_connections();
        for number in 0..3 {
            assert_eq!(session.event(&number.to_string()).text(), number.to_string());
        }
    });
}

#[test]
fn the_interpreter_looks_as_on_aws() {
    let body = "return [sys.path[:5], os.getcwd(), callable(exit) and callable(quit) and callable(help),\n\
                os.environ['AWS_EXECUTION_ENV'], os.environ['TZ'], 'os' in globals(), sys.stdout.encoding]";
    each(|found| {
        let mut session = start(found, "import os, sys", body);
        let release = found.runtime.release();
        let answer: Value = serde_json::from_str(&session.event("1").text().replace('\n', "")).unwrap();
        let inside: Value = serde_json::from_str(&session.inside(&answer.to_string())).unwrap();
        let layer = format!("/opt/python/lib/python{release}/site-packages");
        assert_eq!(
            inside[0].as_array().unwrap()[..4],
            [json!("/var/task"), json!(layer), json!("/opt/python"), json!("/var/runtime")]
        );
        let environment = format!("AWS_Lambda_{}", found.runtime.id);
        assert_eq!(
            inside.as_array().unwrap()[1..],
            [json!("/var/task"), json!(true), json!(environment), json!(":UTC"), json!(true), json!("utf-8")]
        );
    });
}

#[test]
fn processes_of_its_own_do_not_run_the_bootstrap_again() {
    let before = "import multiprocessing\ndef work(pipe):\n    pipe.send('from a process')";
    let body = "here, there = multiprocessing.get_context('spawn').Pipe()\n\
                process = multiprocessing.get_context('spawn').Process(target=work, args=(there,))\n\
                process.start()\nanswer = here.recv()\nprocess.join()\nreturn answer";
    each(|found| {
        let mut session = start(found, before, body);
        assert_eq!(session.event("1").text(), r#""from a process""#, "{}", session.log());
    });
}
