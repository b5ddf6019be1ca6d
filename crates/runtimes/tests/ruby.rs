//! Ruby's bootstrap, as an ordinary local process on each Ruby that this host has for AWS's runtimes; where it has none of
//! those, on the system's own, whichever release from 3.1 on it is.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use freehold_runtimes::catalog::{Family, Installed, known};
use serde_json::json;
use support::{Session, installed};

/// The system's own Ruby.
const SYSTEM_RUBY: &str = "/usr/bin/ruby";
/// The oldest release that the stand-in may have.
const OLDEST_STAND_IN: (u32, u32) = (3, 1);

/// The Rubies to test.
fn rubies() -> Vec<Arc<Installed>> {
    let found = installed(Family::Ruby);
    if !found.is_empty() {
        return found.to_vec();
    }
    static STAND_IN: OnceLock<Option<Arc<Installed>>> = OnceLock::new();
    STAND_IN.get_or_init(stand_in).iter().cloned().collect()
}

fn stand_in() -> Option<Arc<Installed>> {
    let output = Command::new(SYSTEM_RUBY).args(["-e", "print RUBY_VERSION"]).output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    if (numbers.next()?, numbers.next()?) < OLDEST_STAND_IN {
        return None;
    }
    let code = include_bytes!("../bootstraps/ruby/bootstrap.rb").to_vec();
    Some(Arc::new(Installed {
        runtime: known().iter().find(|runtime| runtime.id == "ruby3.2").unwrap().clone(),
        version,
        executable: SYSTEM_RUBY.into(),
        prefix: "/usr".into(),
        program: SYSTEM_RUBY.into(),
        mounts: Vec::new(),
        options: Vec::new(),
        files: vec![("/var/runtime/bootstrap.rb".into(), code)],
    }))
}

/// A function `f.handler` with this body.
fn on_each(body: &str, check: impl Fn(&mut Session)) {
    let source = format!("def handler(event:, context:)\n{body}\nend\n");
    for ruby in rubies() {
        check(&mut Session::start(&ruby, &[("f.rb", &source)], "f.handler"));
    }
}

#[test]
fn answers_are_json_and_state_is_kept() {
    on_each("@count = (@count || 0) + 1; { count: @count, event: event }", |session| {
        assert_eq!(session.event(r#"{"a": "ü"}"#).json(), json!({"count": 1, "event": {"a": "ü"}}));
        assert_eq!(session.event("[null, 1.5]").json(), json!({"count": 2, "event": [null, 1.5]}));
        session.close_connections();
        assert_eq!(session.event("3").json()["count"], 3);
        let posted = session.event_with(br#""in pieces""#, &[("Transfer-Encoding", "chunked")]);
        assert_eq!(posted.json(), json!({"count": 4, "event": "in pieces"}));
        let large = format!("\"{}\"", "x".repeat(3_000_000));
        assert_eq!(session.event(&large).json()["event"].as_str().unwrap().len(), 3_000_000);
    });
}

#[test]
fn the_context_is_aws_s() {
    let body = "{ request: context.aws_request_id, arn: context.invoked_function_arn, group: context.log_group_name,
          stream: context.log_stream_name, name: context.function_name, memory: context.memory_limit_in_mb,
          version: context.function_version, client: context.client_context, identity: context.identity,
          left: context.get_remaining_time_in_millis, deadline: context.deadline_ms, trace: ENV['_X_AMZN_TRACE_ID'],
          gems: ENV['GEM_PATH'], library: ENV['RUBYLIB'] }";
    on_each(body, |session| {
        let client = r#"{"custom": {"a": "b"}}"#;
        let told = session.event_with(b"{}", &[("Lambda-Runtime-Client-Context", client)]).json();
        let expected = json!({
            "request": "request-1", "arn": "arn:aws:lambda:eu-central-1:000000000000:function:hello",
            "group": "/aws/lambda/hello", "stream": "2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef",
            "name": "hello", "memory": "256", "version": "$LATEST", "client": {"custom": {"a": "b"}}, "identity": null,
            "trace": "Root=1-67f;Sampled=0",
        });
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&told[name], value, "{name}");
        }
        assert!((1..=30_000).contains(&told["left"].as_u64().unwrap()), "{told}");
        let gems = session.inside(told["gems"].as_str().unwrap());
        assert!(gems.starts_with("/var/task/vendor/bundle/ruby/3."), "{gems}");
        assert!(gems.contains(":/opt/ruby/gems/3."), "{gems}");
        let library = session.inside(told["library"].as_str().unwrap());
        assert_eq!(library, "/var/task:/var/runtime/lib:/opt/ruby/lib");
    });
}

#[test]
fn a_method_of_a_class_in_a_folder() {
    let source = "module Orders\n  class Handler\n    def self.process(event:, context:) = \"got #{event['id']}\"\n  end\nend\n";
    for ruby in rubies() {
        let files = [("source/orders.rb", source)];
        let mut session = Session::start(&ruby, &files, "source/orders.Orders::Handler.process");
        assert_eq!(session.event(r#"{"id": 7}"#).json(), "got 7");
    }
}

#[test]
fn an_error_is_told_as_aws_does_and_the_next_event_is_served() {
    let body = "raise ArgumentError, 'no stock' if event == 1\nclass_of_its_own = Class.new(StandardError)\n\
                Object.const_set(:OutOfStock, class_of_its_own) unless defined?(OutOfStock)\nraise OutOfStock, 'none'";
    on_each(body, |session| {
        let posted = session.event("1");
        assert_eq!(posted.what, "error");
        assert_eq!(posted.headers["lambda-runtime-function-error-type"], "Function<ArgumentError>");
        let told = posted.json();
        assert_eq!(
            (&told["errorMessage"], &told["errorType"]),
            (&json!("no stock"), &json!("Function<ArgumentError>"))
        );
        let trace: Vec<_> =
            told["stackTrace"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        assert_eq!(trace.len(), 1, "{trace:?}");
        assert!(session.inside(trace[0]).starts_with("/var/task/f.rb:2:in "), "{trace:?}");
        let posted = session.event("2");
        assert_eq!(posted.json()["errorType"], "Function<OutOfStock>");
        assert_eq!(posted.headers["lambda-runtime-function-error-type"], "Function<UserException>");
        let log = session.log();
        assert!(
            log.contains("Error raised from handler method\n{\n  \"errorMessage\": \"no stock\",\n"),
            "{log}"
        );
        session.ready();
    });
}

#[test]
fn after_an_error_that_may_have_broken_it_the_program_ends() {
    for (body, kind) in [("nil.nope", "NoMethodError"), ("nope", "NameError"), ("exit", "SystemExit")] {
        on_each(body, |session| {
            let posted = session.event("1");
            assert_eq!(posted.json()["errorType"], format!("Function<{kind}>"));
            assert_eq!(session.exit().code(), Some(255));
            assert!(session.log().contains("Critical exception from handler"), "{}", session.log());
        });
    }
}

#[test]
fn what_goes_wrong_before_the_first_event() {
    let cases = [
        ("require 'nowhere'\n", "f.handler", "Init<LoadError>", "cannot load such file -- nowhere"),
        ("1\n", "other.handler", "Init<LoadError>", "cannot load such file -- other"),
        ("def handler(\n", "f.handler", "Init<SyntaxError>", "f.rb"),
        ("raise 'too early'\n", "f.handler", "Init<RuntimeError>", "too early"),
        ("1\n", "f", "Init<ArgumentError>", "must be of form FILENAME.METHOD or FILENAME.CLASS.METHOD"),
    ];
    for ruby in rubies() {
        for (source, handler, kind, says) in cases {
            let mut session = Session::start(&ruby, &[("f.rb", source)], handler);
            let told = session.init_error().json();
            assert_eq!(told["errorType"], kind);
            assert!(told["errorMessage"].as_str().unwrap().contains(says), "{told}");
            assert_eq!(session.exit().code(), Some(252));
        }
    }
}

#[test]
fn a_stream_is_answered_as_it_is() {
    on_each("StringIO.new('plain <b>text</b>')", |session| {
        let posted = session.event("1");
        assert_eq!(
            (posted.text(), posted.headers["content-type"].as_str()),
            ("plain <b>text</b>", "application/unknown")
        );
    });
}

#[test]
fn lines_of_the_log() {
    let body =
        "puts 'printed'; Logger.new($stdout).warn('careful'); Logger.new('file.log').info('elsewhere'); 1";
    on_each(body, |session| {
        session.event("1");
        let log = session.log();
        assert!(log.contains("printed\n"), "{log}");
        assert!(log.contains("]  WARN request-1 -- : careful\n"), "{log}");
        assert!(!log.contains("elsewhere"), "{log}");
    });
}

#[test]
fn a_function_s_own_way_to_read_and_write() {
    let source = "class AwsLambda::Marshaller\n  def self.marshall_request(request) = request.body.upcase\n\
                  def self.marshall_response(response) = [response, 'text/plain']\nend\n\
                  def handler(event:, context:) = \"#{event}!\"\n";
    for ruby in rubies() {
        let mut session = Session::start(&ruby, &[("f.rb", source)], "f.handler");
        let posted = session.event(r#""abc""#);
        assert_eq!((posted.text(), posted.headers["content-type"].as_str()), ("\"ABC\"!", "text/plain"));
    }
}

#[test]
fn there_is_a_ruby_to_test() {
    if rubies().is_empty() {
        println!(
            "SKIPPED Ruby's bootstrap: neither a runtime's Ruby nor {SYSTEM_RUBY} 3.1 or later is on this host"
        );
    }
    assert!(rubies().iter().all(|ruby| Path::new(&ruby.executable).exists()));
}
