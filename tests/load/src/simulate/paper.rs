//! Sums: how much of each place's time its work takes.

use super::plan::{Kind, Model, Plan, Step};

/// The share of every place's time that is used.
pub(super) fn utilisation(model: &Model) -> Vec<f64> {
    let mut busy = vec![0.0; model.places.len()];
    for flow in &model.flows {
        for step in &flow.steps {
            let Step::Serve { first, count, us } = *step else { continue };
            for share in &mut busy[first..first + count] {
                *share += flow.per_second * us / 1e6 / count as f64;
            }
        }
    }
    let places = model.places.iter();
    busy.iter().zip(places).map(|(busy, place)| busy / f64::from(place.servers)).collect()
}

/// How many peers the plan's deployment carries before a place is used to `share`, and which.
pub(super) fn carries(plan: &Plan, share: f64) -> anyhow::Result<(f64, Kind)> {
    let fullest = |peers: f64| {
        let model = plan.with_peers(peers).model()?;
        let all = utilisation(&model).into_iter().zip(&model.places);
        let fullest = all.max_by(|a, b| a.0.total_cmp(&b.0));
        anyhow::Ok(fullest.map_or((0.0, Kind::Signal), |(share, place)| (share, place.kind)))
    };
    let (mut least, mut most) = (0.0, 1.0);
    while fullest(most)?.0 < share && most < 1e12 {
        (least, most) = (most, most * 2.0);
    }
    // Presence to everybody grows with the square, hence no division.
    for _ in 0..60 {
        let middle = f64::midpoint(least, most);
        if fullest(middle)?.0 < share { least = middle } else { most = middle }
    }
    Ok((least, fullest(most)?.1))
}
