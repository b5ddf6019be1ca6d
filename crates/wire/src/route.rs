//! Which operation a request means.
//!
//! - [`PathRoutes`]: by method and path, for the REST protocols: a tree of path segments, so that a thousand operations
//!   cost no more than ten
//! - [`NameRoutes`]: by `X-Amz-Target` or `Action`
//!
//! A literal segment is preferred to a label and a label to the rest of the path; among templates of one path, one that
//! asks for a query parameter is preferred where the request has it. A slash at the end of path or template means
//! nothing. Operations that are only known by name are found like those that are there.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use http::Method;
use percent_encoding::percent_decode;

use crate::form;
use crate::service::{Definition, Operation, Route, Verb};

/// The labels of a path, decoded.
pub type Labels = BTreeMap<&'static str, String>;

/// What a request means.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// An operation that the service has.
    Operation(&'static Operation),
    /// The name of one that AWS has and the service has not.
    Known(&'static str),
}

/// A service's definition contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The template is not one.
    #[error("'{0}' is not a path template: a label is {{Name}}, or {{Name+}} at the end")]
    Template(&'static str),
    /// Two operations cannot be told apart.
    #[error("'{0}' stands for more than one operation")]
    Twice(&'static str),
}

/// Operations by method and path.
#[derive(Debug, Default)]
pub struct PathRoutes {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<&'static str, Node>,
    label: Option<Box<Node>>,
    /// Operations whose template ends here.
    ends: Vec<End>,
    /// Operations whose template takes the rest of the path here.
    rests: Vec<End>,
}

/// Where a template ends.
#[derive(Debug)]
struct End {
    verb: Verb,
    /// The query parameter that the template asks for.
    query: Option<(&'static str, &'static str)>,
    labels: Vec<&'static str>,
    target: Target,
}

impl PathRoutes {
    /// The REST operations of a service.
    pub fn new(definition: &Definition) -> Result<Self, RouteError> {
        let mut routes = Self::default();
        for (route, target) in targets(definition) {
            if let Route::Rest(verb, template) = route {
                routes.root.insert(verb, template, target)?;
            }
        }
        Ok(routes)
    }

    /// The operation that this method and (still encoded) path and query mean, and the path's labels.
    pub fn find(&self, method: &Method, path: &str, query: Option<&str>) -> Option<(Target, Labels)> {
        let path = path.strip_prefix('/')?;
        let mut values = Vec::new();
        let end = self.root.find(path, &mut values, &|end| end.fits(method, query))?;
        let decode = |value| String::from_utf8_lossy(&Cow::from(percent_decode(value))).into_owned();
        let values = values.into_iter().map(|value: &str| decode(value.as_bytes()));
        Some((end.target, end.labels.iter().copied().zip(values).collect()))
    }
}

impl Node {
    fn insert(&mut self, verb: Verb, template: &'static str, target: Target) -> Result<(), RouteError> {
        let wrong = || RouteError::Template(template);
        let (path, query) = match template.split_once('?') {
            Some((path, query)) => (path, Some(query.split_once('=').unwrap_or((query, "")))),
            None => (template, None),
        };
        let path = path.strip_prefix('/').ok_or_else(wrong)?;
        let mut labels = Vec::new();
        let mut node = self;
        let mut rest = false;
        for segment in segments(path) {
            if rest {
                return Err(wrong());
            }
            if let Some(label) = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) {
                rest = label.ends_with('+');
                labels.push(label.trim_end_matches('+'));
                if !rest {
                    node = node.label.get_or_insert_default();
                }
            } else if segment.is_empty() || segment.contains(['{', '}']) {
                return Err(wrong());
            } else {
                node = node.literals.entry(segment).or_default();
            }
        }
        let ends = if rest { &mut node.rests } else { &mut node.ends };
        if ends.iter().any(|end| end.verb == verb && end.query == query) {
            return Err(RouteError::Twice(template));
        }
        ends.push(End { verb, query, labels, target });
        // Those that ask for a query parameter are tried first.
        ends.sort_by_key(|end| end.query.is_none());
        Ok(())
    }

    /// `values` are the labels' values on the way here; they are as before where nothing was found.
    fn find<'p>(
        &self,
        path: &'p str,
        values: &mut Vec<&'p str>,
        fits: &impl Fn(&End) -> bool,
    ) -> Option<&End> {
        if path.is_empty() {
            return self.ends.iter().find(|end| fits(end));
        }
        let (segment, rest) = path.split_once('/').unwrap_or((path, ""));
        if !self.literals.is_empty() {
            let literal: Cow<'_, [u8]> = percent_decode(segment.as_bytes()).into();
            let node = std::str::from_utf8(&literal).ok().and_then(|literal| self.literals.get(literal));
            if let Some(end) = node.and_then(|node| node.find(rest, values, fits)) {
                return Some(end);
            }
        }
        if let Some(node) = self.label.as_ref().filter(|_| !segment.is_empty()) {
            values.push(segment);
            if let Some(end) = node.find(rest, values, fits) {
                return Some(end);
            }
            values.pop();
        }
        let end = self.rests.iter().find(|end| fits(end))?;
        values.push(path);
        Some(end)
    }
}

impl End {
    fn fits(&self, method: &Method, query: Option<&str>) -> bool {
        self.verb.is(method)
            && self.query.is_none_or(|(name, wanted)| {
                query.and_then(|query| form::value(query, name)).is_some_and(|value| value == wanted)
            })
    }
}

/// Segments of a template without its leading slash; one at its end means nothing.
fn segments(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.strip_suffix('/').unwrap_or(path).split('/').filter(move |_| !path.is_empty())
}

/// Operations by a name in the request.
#[derive(Debug, Default)]
pub struct NameRoutes(HashMap<&'static str, Target>);

impl NameRoutes {
    /// The operations of a service that are told by `X-Amz-Target` or by `Action`.
    pub fn new(definition: &Definition) -> Result<Self, RouteError> {
        let mut routes = HashMap::new();
        for (route, target) in targets(definition) {
            if let Route::Target(name) | Route::Action(name) = route
                && routes.insert(name, target).is_some()
            {
                return Err(RouteError::Twice(name));
            }
        }
        Ok(Self(routes))
    }

    /// The operation of this name.
    pub fn find(&self, name: &str) -> Option<Target> {
        self.0.get(name).copied()
    }
}

fn targets(definition: &Definition) -> impl Iterator<Item = (Route, Target)> {
    let operations =
        definition.operations.iter().map(|operation| (operation.route, Target::Operation(operation)));
    let known = definition.known.iter().map(|known| (known.route, Target::Known(known.name)));
    operations.chain(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{KnownOperation, Protocol};
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    const fn known(name: &'static str, verb: Verb, template: &'static str) -> KnownOperation {
        KnownOperation { name, route: Route::Rest(verb, template) }
    }

    static KNOWN: [KnownOperation; 10] = [
        known("ListFunctions", Verb::Get, "/2015-03-31/functions/"),
        known("CreateFunction", Verb::Post, "/2015-03-31/functions"),
        known("GetFunction", Verb::Get, "/2015-03-31/functions/{FunctionName}"),
        known("Invoke", Verb::Post, "/2015-03-31/functions/{FunctionName}/invocations"),
        known("GetAlias", Verb::Get, "/2015-03-31/functions/{FunctionName}/aliases/{Name}"),
        known("ListMine", Verb::Get, "/2015-03-31/functions/mine"),
        known("ListTags", Verb::Get, "/tags/{Arn+}"),
        known(
            "ListConfigs",
            Verb::Get,
            "/2019-09-30/functions/{FunctionName}/provisioned-concurrency?List=ALL",
        ),
        known("GetConfig", Verb::Get, "/2019-09-30/functions/{FunctionName}/provisioned-concurrency"),
        known("Home", Verb::Get, "/"),
    ];

    fn routes() -> PathRoutes {
        let definition =
            Definition { scope: "x", protocol: Protocol::RestJson, operations: &[], known: &KNOWN };
        PathRoutes::new(&definition).expect("the templates are right")
    }

    fn found(method: Method, path: &str, query: Option<&str>) -> Option<(&'static str, Labels)> {
        let (target, labels) = routes().find(&method, path, query)?;
        match target {
            Target::Known(name) => Some((name, labels)),
            Target::Operation(operation) => Some((operation.name, labels)),
        }
    }

    #[test]
    fn a_path_means_the_most_special_operation() {
        let cases = [
            ("/2015-03-31/functions/", None, "ListFunctions"),
            ("/2015-03-31/functions", None, "ListFunctions"),
            ("/2015-03-31/functions/hello", None, "GetFunction"),
            ("/2015-03-31/functions/hello/", None, "GetFunction"),
            ("/2015-03-31/functions/mine", None, "ListMine"),
            ("/2015-03-31/functions/mine/aliases/a%2Fb", None, "GetAlias"),
            ("/tags/arn:aws/with/slashes", None, "ListTags"),
            ("/2019-09-30/functions/f/provisioned-concurrency", Some("List=ALL"), "ListConfigs"),
            ("/2019-09-30/functions/f/provisioned-concurrency", Some("Qualifier=1"), "GetConfig"),
            ("/", None, "Home"),
        ];
        for (path, query, name) in cases {
            assert_eq!(found(Method::GET, path, query).map(|found| found.0), Some(name), "{path}");
        }
        let labels =
            found(Method::GET, "/2015-03-31/functions/a%2Fb/aliases/%C3%A9", None).expect("an alias").1;
        assert_eq!(labels, Labels::from([("FunctionName", "a/b".to_owned()), ("Name", "é".to_owned())]));
    }

    #[test]
    fn what_is_no_route_is_not_found() {
        for path in [
            "",
            "*",
            "/2015-03-31",
            "/2015-03-31/functions/a/b",
            "/2015-03-31/functions//invocations",
            "/tags",
        ] {
            assert_eq!(found(Method::GET, path, None), None, "{path}");
        }
        assert_eq!(found(Method::PUT, "/2015-03-31/functions/hello", None), None);
    }

    #[test]
    fn a_template_is_checked() {
        static WRONG: [(&str, &str); 5] =
            [("no", "x"), ("/{A+}/b", "/x"), ("/{A", "/x"), ("/a//b", "/x"), ("/x", "/x/")];
        for (first, second) in &WRONG {
            let mut root = Node::default();
            let first = root.insert(Verb::Get, first, Target::Known("first"));
            let second = root.insert(Verb::Get, second, Target::Known("second"));
            assert!(first.is_err() || second.is_err());
        }
    }

    proptest! {
        #[test]
        fn finding_never_fails(path in ".*", query in proptest::option::of(".*")) {
            found(Method::GET, &path, query.as_deref());
            found(Method::GET, &format!("/2015-03-31/functions/{path}"), query.as_deref());
        }

        #[test]
        fn labels_are_what_was_encoded(function in ".+", alias in ".+") {
            let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let path = format!("/2015-03-31/functions/{}/aliases/{}", encode(&function), encode(&alias));
            let (name, labels) = found(Method::GET, &path, None).expect("an alias");
            prop_assert_eq!(name, "GetAlias");
            prop_assert_eq!(labels, Labels::from([("FunctionName", function), ("Name", alias)]));
        }

        #[test]
        fn the_rest_of_a_path_is_what_was_encoded(rest in "[^/].*") {
            let encoded = utf8_percent_encode(&rest, NON_ALPHANUMERIC).to_string().replace("%2F", "/");
            let (_, labels) = found(Method::GET, &format!("/tags/{encoded}"), None).expect("tags");
            prop_assert_eq!(&labels["Arn"], &rest);
        }
    }
}
