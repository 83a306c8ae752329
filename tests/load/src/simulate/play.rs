//! The same work, arriving at random and waiting in line.
//!
//! Arrivals are independent (Poisson), service times exponential around their average: each place
//! is an M/M/c queue, which errs towards longer waits than steady costs would give.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;

use super::plan::{Flow, Model, Step};

/// How one run went.
pub(super) struct Run {
    /// Share of every place's time that was used.
    pub(super) utilisation: Vec<f64>,
    pub(super) times: Vec<Times>,
}

/// How long one kind of work took from end to end.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Times {
    pub(super) name: &'static str,
    pub(super) per_second: f64,
    pub(super) mean_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// A piece of work on its way. Times in nanoseconds since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    flow: usize,
    began: u64,
    step: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The next piece of this kind arrives.
    Arrives(usize),
    /// A piece is done at this place, or done waiting.
    Done(Option<usize>, Piece),
}

#[derive(Default)]
struct Line {
    idle: u32,
    waiting: VecDeque<(Piece, u64)>,
    busy_ns: u64,
}

struct Player<'m> {
    model: &'m Model,
    dice: SmallRng,
    lines: Vec<Line>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    took_ns: Vec<Vec<u64>>,
    end: u64,
}

/// Plays `seconds` of the model's work.
pub(super) fn play(model: &Model, seconds: f64, seed: u64) -> Run {
    let line = |servers| Line { idle: servers, ..Line::default() };
    let mut player = Player {
        model,
        dice: SmallRng::seed_from_u64(seed),
        lines: model.places.iter().map(|place| line(place.servers)).collect(),
        events: BinaryHeap::new(),
        took_ns: vec![Vec::new(); model.flows.len()],
        end: (seconds * 1e9) as u64,
    };
    for flow in 0..model.flows.len() {
        player.next_arrival(flow, 0);
    }
    while let Some(Reverse((now, event))) = player.events.pop() {
        match event {
            Event::Arrives(flow) => {
                player.next_arrival(flow, now);
                player.go_on(Piece { flow, began: now, step: 0 }, now);
            }
            Event::Done(place, piece) => {
                if let Some(place) = place {
                    player.leave(place, now);
                }
                player.go_on(Piece { step: piece.step + 1, ..piece }, now);
            }
        }
    }
    player.finish()
}

impl Player<'_> {
    fn next_arrival(&mut self, flow: usize, now: u64) {
        let gap = self.exponential(1e9 / self.model.flows[flow].per_second);
        if now + gap < self.end {
            self.events.push(Reverse((now + gap, Event::Arrives(flow))));
        }
    }

    fn go_on(&mut self, piece: Piece, now: u64) {
        let Some(step) = self.model.flows[piece.flow].steps.get(piece.step) else {
            self.took_ns[piece.flow].push(now - piece.began);
            return;
        };
        match *step {
            Step::Wait { us } => {
                let done = now + self.exponential(us * 1e3);
                self.events.push(Reverse((done, Event::Done(None, piece))));
            }
            Step::Serve { first, count, us } => {
                let place = first + self.dice.random_range(0..count);
                let service = self.exponential(us * 1e3);
                let line = &mut self.lines[place];
                if line.idle == 0 {
                    return line.waiting.push_back((piece, service));
                }
                line.idle -= 1;
                self.serve(place, piece, service, now);
            }
        }
    }

    fn serve(&mut self, place: usize, piece: Piece, service: u64, now: u64) {
        self.lines[place].busy_ns += service;
        self.events.push(Reverse((now + service, Event::Done(Some(place), piece))));
    }

    fn leave(&mut self, place: usize, now: u64) {
        match self.lines[place].waiting.pop_front() {
            Some((piece, service)) => self.serve(place, piece, service, now),
            None => self.lines[place].idle += 1,
        }
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        let even: f64 = self.dice.random_range(f64::MIN_POSITIVE..1.0);
        (-even.ln() * mean) as u64
    }

    fn finish(self) -> Run {
        let capacity = |servers: u32| self.end as f64 * f64::from(servers);
        let used = self.lines.iter().zip(&self.model.places);
        let utilisation =
            used.map(|(line, place)| line.busy_ns as f64 / capacity(place.servers)).collect();
        let all = self.took_ns.into_iter().zip(&self.model.flows);
        let seconds = self.end as f64 / 1e9;
        Run { utilisation, times: all.map(|(took, flow)| times(took, flow, seconds)).collect() }
    }
}

fn times(mut took: Vec<u64>, flow: &Flow, seconds: f64) -> Times {
    took.sort_unstable();
    let at = |share: f64| {
        let nth = (took.len() as f64 * share) as usize;
        took.get(nth.min(took.len().saturating_sub(1))).map_or(0.0, |ns| *ns as f64 / 1e6)
    };
    let total: u64 = took.iter().sum();
    Times {
        name: flow.name,
        per_second: took.len() as f64 / seconds,
        mean_ms: total as f64 / 1e6 / took.len().max(1) as f64,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
    }
}
