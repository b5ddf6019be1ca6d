//! Policies as pure things: what they say about requests, what is read and what is refused, how they look.

use serde_json::{Value, json};

use super::condition::Context;
use super::decision::{Decision, Request, decide};
use super::principal::{Caller, Principal};
use super::reading::read;
use super::{Document, POLICY_BYTES, PolicyError, Statement};

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";
const ROOT: &str = "arn:aws:iam::000000000000:root";

fn statement(effect: &str, principal: &Value, condition: &Value) -> Value {
    let mut statement = json!({
        "Sid": "s", "Effect": effect, "Principal": principal, "Action": "lambda:InvokeFunction", "Resource": ARN,
    });
    if !condition.is_null() {
        statement["Condition"] = condition.clone();
    }
    statement
}

fn policy(statements: &[Value]) -> String {
    let mut statements = statements.to_vec();
    for (index, statement) in statements.iter_mut().enumerate() {
        statement["Sid"] = json!(format!("s{index}"));
    }
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

fn document(statements: &[Value]) -> Document {
    read(&policy(statements), ARN).expect("a policy")
}

fn decided(document: &Document, caller: Caller<'_>, context: &Context) -> Decision {
    let resources = [ARN.to_owned()];
    let request = Request { caller, action: "lambda:InvokeFunction", resources: &resources, context };
    decide(std::slice::from_ref(document), &request)
}

fn service(name: &str) -> Caller<'_> {
    Caller { service: Some(name), ..Caller::default() }
}

fn identity<'a>(account: &'a str, arn: &'a str) -> Caller<'a> {
    Caller { account: Some(account), arn: Some(arn), service: None }
}

#[test]
fn a_service_is_let_in_from_the_source_that_was_named() {
    let condition = json!({
        "StringEquals": {"AWS:SourceAccount": "000000000000"}, "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::pictures-*"},
    });
    let document = document(&[statement("Allow", &json!({"Service": "s3.amazonaws.com"}), &condition)]);
    let from = |account: &str, arn: &str| {
        Context::default().with("aws:SourceAccount", account).with("aws:SourceArn", arn)
    };
    let right = from("000000000000", "arn:aws:s3:::pictures-1");
    assert_eq!(decided(&document, service("s3.amazonaws.com"), &right), Decision::Allowed);
    for (caller, context) in [
        (service("sns.amazonaws.com"), right.clone()),
        (service("s3.amazonaws.com"), from("111111111111", "arn:aws:s3:::pictures-1")),
        (service("s3.amazonaws.com"), from("000000000000", "arn:aws:s3:::videos")),
        (service("s3.amazonaws.com"), Context::default()),
        (identity("000000000000", ROOT), right),
        (Caller::default(), from("000000000000", "arn:aws:s3:::pictures-1")),
    ] {
        assert_eq!(decided(&document, caller, &context), Decision::Neither, "{caller:?}");
    }
}

#[test]
fn accounts_users_and_roles_are_told_apart() {
    let user = "arn:aws:iam::111111111111:user/team/ann";
    let session = "arn:aws:sts::111111111111:assumed-role/work/s1";
    let cases: [(Value, &[&str]); 8] = [
        (json!("*"), &[user, session, ROOT]),
        (json!({"AWS": "*"}), &[user, session, ROOT]),
        (json!({"AWS": "111111111111"}), &[user, session]),
        (json!({"AWS": "arn:aws:iam::111111111111:root"}), &[user, session]),
        (json!({"AWS": user}), &[user]),
        (json!({"AWS": ["arn:aws:iam::111111111111:role/path/work"]}), &[session]),
        (json!({"AWS": [session, "000000000000"]}), &[session, ROOT]),
        (json!({"AWS": "arn:aws:iam::111111111111:role/rest"}), &[]),
    ];
    for (principal, named) in cases {
        let document = document(&[statement("Allow", &principal, &Value::Null)]);
        for (account, arn) in [("111111111111", user), ("111111111111", session), ("000000000000", ROOT)] {
            let allowed =
                decided(&document, identity(account, arn), &Context::default()) == Decision::Allowed;
            assert_eq!(allowed, named.contains(&arn), "{principal} and {arn}");
        }
    }
    let everyone = document(&[statement("Allow", &json!("*"), &Value::Null)]);
    assert_eq!(decided(&everyone, Caller::default(), &Context::default()), Decision::Allowed);
}

#[test]
fn whoever_is_denied_is_not_let_in_by_another_statement() {
    let s3 = json!({"Service": "s3.amazonaws.com"});
    let one_bucket = json!({"ArnLike": {"aws:SourceArn": "arn:aws:s3:::closed"}});
    let document = document(&[statement("Deny", &s3, &one_bucket), statement("Allow", &s3, &Value::Null)]);
    let from = |arn: &str| Context::default().with("AWS:SourceArn", arn);
    let asked = |arn: &str| decided(&document, service("s3.amazonaws.com"), &from(arn));
    assert_eq!(asked("arn:aws:s3:::open"), Decision::Allowed);
    assert_eq!(asked("arn:aws:s3:::closed"), Decision::Denied);
}

#[test]
fn an_action_and_a_resource_may_be_patterns() {
    let document = |action: &str, resource: &str| {
        let mut one = statement("Allow", &json!("*"), &Value::Null);
        (one["Action"], one["Resource"]) = (json!(action), json!(resource));
        read(&policy(&[one]), ARN).expect("a policy")
    };
    let allows = |document: &Document, action: &str, resource: &str| {
        let (resources, context) = ([resource.to_owned()], Context::default());
        let request = Request { caller: Caller::default(), action, resources: &resources, context: &context };
        decide(std::slice::from_ref(document), &request) == Decision::Allowed
    };
    let (live, all) = (format!("{ARN}:live"), format!("{ARN}:*"));
    for (action, resource, asked, of, expected) in [
        ("lambda:*", ARN, "lambda:GetFunction", ARN, true),
        ("*", "*", "lambda:GetFunction", &live, true),
        ("lambda:get*", ARN, "lambda:GetFunction", ARN, true),
        ("lambda:Invoke*", ARN, "lambda:GetFunction", ARN, false),
        ("lambda:InvokeFunction", ARN, "lambda:InvokeFunction", &live, false),
        ("lambda:InvokeFunction", &all, "lambda:InvokeFunction", &live, true),
        ("lambda:InvokeFunction", &all, "lambda:InvokeFunction", ARN, false),
    ] {
        assert_eq!(
            allows(&document(action, resource), asked, of),
            expected,
            "{action} {resource} {asked} {of}"
        );
    }
}

#[test]
fn every_operator_means_what_iam_says() {
    let cases = [
        ("StringEquals", "one", [true, false, false]),
        ("StringEqualsIfExists", "one", [true, false, true]),
        ("StringNotEquals", "one", [false, true, true]),
        ("StringEqualsIgnoreCase", "ONE", [true, false, false]),
        ("StringNotEqualsIgnoreCase", "ONE", [false, true, true]),
        ("StringLike", "o?e*", [true, false, false]),
        ("StringNotLike", "o*", [false, true, true]),
        ("Bool", "One", [true, false, false]),
        ("Null", "true", [false, false, true]),
        ("Null", "false", [true, true, false]),
        ("ForAllValues:StringEquals", "one", [true, false, true]),
        ("ForAnyValue:StringEquals", "one", [true, false, false]),
        ("ForAllValues:StringNotLike", "one", [false, true, true]),
        ("NumericEquals", "one", [false, false, false]),
        ("IpAddress", "10.0.0.0/8", [false, false, false]),
    ];
    for (operator, wanted, expected) in cases {
        let condition = json!({operator: {"aws:SourceAccount": ["zero", wanted]}});
        let condition =
            if operator == "Null" { json!({operator: {"aws:SourceAccount": wanted}}) } else { condition };
        let document = document(&[statement("Allow", &json!("*"), &condition)]);
        let known = |value: &str| Context::default().with("AWS:sourceaccount", value);
        let found = [known("one"), known("two"), Context::default()]
            .map(|context| decided(&document, Caller::default(), &context) == Decision::Allowed);
        assert_eq!(found, expected, "{operator} {wanted}");
    }
}

#[test]
fn all_conditions_must_hold() {
    let condition =
        json!({"StringEquals": {"aws:SourceAccount": "1", "aws:SourceArn": "2"}, "Bool": {"aws:x": true}});
    let document = document(&[statement("Allow", &json!("*"), &condition)]);
    let mut context = Context::default();
    for (key, value, expected) in [
        ("aws:SourceAccount", "1", Decision::Neither),
        ("aws:SourceArn", "2", Decision::Neither),
        ("aws:x", "true", Decision::Allowed),
    ] {
        context = context.with(key, value);
        assert_eq!(decided(&document, Caller::default(), &context), expected, "{key}");
    }
}

#[test]
fn a_policy_is_kept_as_it_was_written_and_accounts_become_arns() {
    let text = json!({
        "Id": "mine",
        "Statement": {
            "Effect": "Allow", "Principal": {"AWS": ["111111111111", "*"], "Service": "sns.amazonaws.com"},
            "Action": ["lambda:InvokeFunction", "lambda:Get*"], "Resource": [ARN, format!("{ARN}:*")],
            "Condition": {"Bool": {"aws:SecureTransport": true}, "NumericLessThan": {"aws:Age": [1, 2.5]}},
        },
    });
    let kept = read(&text.to_string(), ARN).expect("a policy").to_text();
    let expected = r#"{"Version":"2012-10-17","Id":"mine","Statement":[{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111111111111:root","*"],"Service":"sns.amazonaws.com"},"Action":["lambda:InvokeFunction","lambda:Get*"],"Resource":["ARN","ARN:*"],"Condition":{"Bool":{"aws:SecureTransport":"true"},"NumericLessThan":{"aws:Age":["1","2.5"]}}}]}"#;
    assert_eq!(kept, expected.replace("ARN", ARN));
    assert_eq!(read(&kept, ARN).expect("again").to_text(), kept);
}

#[test]
fn what_is_no_policy_is_refused_with_the_reason() {
    let with = |member: &str, value: Value| {
        let mut one = statement("Deny", &json!("*"), &Value::Null);
        one[member] = value;
        json!({"Statement": [one]}).to_string()
    };
    let cases = [
        ("{".to_owned(), "The policy is not valid: "),
        ("[]".to_owned(), "an object with a Statement"),
        ("{\"Statement\":[]}".to_owned(), "must have a statement"),
        ("{\"Statement\":7}".to_owned(), "invalid type"),
        (
            json!({"Version": "2020-01-01", "Statement": statement("Deny", &json!("*"), &Value::Null)})
                .to_string(),
            "Version",
        ),
        (json!({"Other": 1, "Statement": []}).to_string(), "unknown field `Other`"),
        (json!({"Statement": [{"Effect": "Allow"}]}).to_string(), "missing field `Principal`"),
        (with("Effect", json!("Maybe")), "unknown variant `Maybe`"),
        (with("Sid", json!("a b")), "the Sid 'a b'"),
        (with("Principal", json!("someone")), "The provided principal was invalid"),
        (with("Principal", json!({"AWS": "someone"})), "The provided principal was invalid"),
        (with("Principal", json!({"AWS": "arn:aws:s3:::bucket"})), "The provided principal was invalid"),
        (with("Principal", json!({"Service": "S3"})), "The provided principal was invalid"),
        (with("Principal", json!({})), "The provided principal was invalid"),
        (with("Principal", json!({"Federated": "x"})), "The provided principal was invalid"),
        (with("Action", json!("s3:GetObject")), "'s3:GetObject' is not an action"),
        (with("Action", json!([])), "an Action and a Resource"),
        (with("Resource", json!(format!("{ARN}g"))), "is not arn:aws:lambda"),
        (with("Resource", json!("arn:aws:s3:::bucket")), "the Resource 'arn:aws:s3:::bucket'"),
        (with("NotAction", json!("lambda:*")), "does not support NotAction"),
        (with("Extra", json!(1)), "unknown field `Extra`"),
        (with("Condition", json!({"Equals": {"aws:x": "1"}})), "no condition operator Equals"),
        (with("Condition", json!({"Bool": {}})), "must have keys and values"),
        (with("Condition", json!({"Bool": {"x": "1"}})), "x is not a condition key"),
        (with("Condition", json!({"Bool": {"aws:x": {}}})), "must be a text"),
        (with("Condition", json!({"IpAddress": {"aws:SourceArn": "1"}})), "condition operator IpAddress"),
        (with("Condition", json!({"StringLike": {"aws:SourceIp": "1"}})), "condition key aws:SourceIp"),
        (
            with("Condition", json!({"StringLike": {"aws:SourceArn": "${aws:x}"}})),
            "variable in aws:SourceArn",
        ),
    ];
    for (text, reason) in cases {
        let error = read(&text, ARN).expect_err(&text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let one = statement("Allow", &json!("*"), &Value::Null);
    let twice = json!({"Statement": [one, one]}).to_string();
    assert!(read(&twice, ARN).expect_err("twice").to_string().contains("two statements have the Sid s"));
}

#[test]
fn a_policy_holds_so_much_and_no_more() {
    let one = |index: usize| {
        let principal = Principal::parse("s3.amazonaws.com").expect("a service");
        Statement::allow(
            format!("s{index:04}"),
            principal,
            "lambda:InvokeFunction".to_owned(),
            ARN.to_owned(),
        )
    };
    let mut document = Document::default();
    let size = one(0).to_text().len() + 1;
    let room = (POLICY_BYTES + 1 - document.to_text().len()) / size;
    for index in 0..room {
        document.add(one(index)).expect("room");
    }
    let refused = document.clone().add(one(room)).expect_err("full");
    let PolicyError::TooLong(bytes) = refused else { panic!("{refused}") };
    assert_eq!(bytes, document.to_text().len() + size);
    assert_eq!(
        refused.to_string(),
        format!("The final policy size ({bytes}) is bigger than the limit (20480).")
    );
    assert!(matches!(document.add(one(3)), Err(PolicyError::StatementExists(sid)) if sid == "s0003"));
    document.remove("s0003").expect("there");
    // A client's own text may be short enough, and what becomes of it not.
    let accounts: Vec<String> = (0..1_000).map(|account| format!("{account:012}")).collect();
    let text = policy(&[statement("Allow", &json!({"AWS": accounts}), &Value::Null)]);
    assert!(text.len() < POLICY_BYTES, "{}", text.len());
    assert!(matches!(read(&text, ARN), Err(PolicyError::TooLong(_))));
    assert!(matches!(document.remove("s0003"), Err(PolicyError::StatementNotFound(_))));
}
