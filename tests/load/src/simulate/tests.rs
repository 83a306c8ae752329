use clap::Parser;

use super::plan::{Engine, Flow, Kind, Model, Station, Step};
use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn options(line: &str) -> Options {
    Line::parse_from(format!("simulate {line}").split_whitespace()).options
}

/// `servers` with `load` of their time used by work of 1 ms.
fn queue(servers: u32, load: f64) -> Model {
    let place = Station { name: "queue".to_owned(), kind: Kind::Signal, servers };
    let steps = vec![Step::Serve { first: 0, count: 1, us: 1000.0 }];
    let per_second = load * f64::from(servers) * 1000.0;
    Model { places: vec![place], flows: vec![Flow { name: "work", per_second, steps }] }
}

/// Mean time in an M/M/c queue with 1 ms of service, by Erlang's C formula.
fn erlang_ms(servers: u32, load: f64) -> f64 {
    let offered = load * f64::from(servers);
    let (mut term, mut sum) = (1.0, 0.0);
    for waiting in 0..servers {
        sum += term;
        term *= offered / f64::from(waiting + 1);
    }
    let all_busy = term / (1.0 - load);
    let must_wait = all_busy / (sum + all_busy);
    1.0 + must_wait / (f64::from(servers) * (1.0 - load))
}

#[test]
fn waiting_is_as_long_as_queueing_theory_says() {
    for (servers, load) in [(1, 0.5), (1, 0.8), (4, 0.7)] {
        let run = play::play(&queue(servers, load), 200.0, 7);
        let (mean, expected) = (run.times[0].mean_ms, erlang_ms(servers, load));
        assert!((mean / expected - 1.0).abs() < 0.05, "{servers}, {load}: {mean} for {expected}");
        assert!((run.utilisation[0] - load).abs() < 0.02, "{:?}", run.utilisation);
    }
}

#[test]
fn the_same_seed_plays_the_same_run() {
    let times = |seed| play::play(&queue(2, 0.6), 5.0, seed).times[0].mean_ms;
    assert_eq!(times(3).to_bits(), times(3).to_bits());
    assert_ne!(times(3).to_bits(), times(4).to_bits());
}

#[test]
fn play_agrees_with_paper_for_either_bus() {
    for bus in ["postgres", "nats"] {
        let outcome = simulate(&options(&format!("--bus {bus} --replicas 3 --seconds 3")));
        let outcome = outcome.expect("within what it carries");
        assert!(outcome.places.iter().all(|place| place.played.is_some()));
        assert!(outcome.work.iter().all(|work| work.p50_ms <= work.p99_ms));
    }
}

#[test]
fn more_than_a_place_can_do_is_refused_with_its_name() {
    let error = simulate(&options("--peers 100000000")).expect_err("far too many");
    assert!(error.to_string().contains("more than it can do"), "{error}");
}

#[test]
fn what_it_carries_fills_the_busiest_place_and_no_other_more() {
    for line in ["", "--watchers 0", "--bus nats --replicas 8", "--replicas 1"] {
        let plan = options(line).plan;
        let (peers, full) = paper::carries(&plan, 0.7).expect("a plan");
        let model = plan.with_peers(peers).model().expect("a plan");
        let shares = paper::utilisation(&model);
        let most = shares.iter().copied().fold(0.0, f64::max);
        assert!((most - 0.7).abs() < 0.001, "{line}: {most}");
        let busiest = model.busiest(&shares);
        let place = model.places.iter().find(|place| place.name == busiest);
        assert_eq!(place.map(|place| place.kind), Some(full), "{line}");
    }
}

#[test]
fn nats_carries_more_than_postgres_once_there_are_many_replicas() {
    let carries = |bus| {
        let plan = Plan { bus, ..options("--replicas 8 --signals 60 --stores 0").plan };
        paper::carries(&plan, 0.7).expect("a plan").0
    };
    assert!(carries(Engine::Nats) > carries(Engine::Postgres));
}
