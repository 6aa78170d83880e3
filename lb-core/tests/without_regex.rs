//! Without the feature `regex` an expression is a problem that says so, at its place, and all else works.
//! The gate runs this with `--no-default-features`.
#![cfg(not(feature = "regex"))]

use lb_core::compile;
use lb_core::spec::*;

fn spec(path: PathMatch, test: ValueTest) -> Spec {
    let route = RouteSpec {
        name: "r".into(),
        path,
        headers: vec![ValueMatch { name: "accept".into(), test }],
        backend: Some("app".into()),
        ..RouteSpec::default()
    };
    let server = ServerSpec {
        name: "a".into(),
        address: Address::Literal(([10, 0, 0, 1], 80).into()),
        ..ServerSpec::default()
    };
    let backend = BackendSpec { name: "app".into(), servers: vec![server], ..BackendSpec::default() };
    Spec { routes: vec![route], backends: vec![backend], ..Spec::default() }
}

#[test]
fn an_expression_is_a_problem_that_says_so() {
    let spec = spec(PathMatch::Regex("/[0-9]+".into()), ValueTest::Regex("text/.*".into()));
    let problems = compile(&spec).expect_err("two expressions").problems;
    let places: Vec<String> = problems.iter().map(|problem| problem.place.to_string()).collect();
    assert!(places.contains(&"route[0].path".to_owned()), "{places:?}");
    assert!(places.contains(&"route[0].header[0]".to_owned()), "{places:?}");
    for problem in &problems {
        assert_eq!(problem.code, "LB016");
        assert!(problem.message.contains("no regular expressions"), "{problem}");
        assert!(problem.expected.contains("feature `regex`"), "{problem}");
    }
}

#[test]
fn all_else_works() {
    compile(&spec(PathMatch::Prefix("/cart".into()), ValueTest::Is("text/html".into())))
        .expect("a valid spec");
}
