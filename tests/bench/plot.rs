//! A plot of the cost of a jail against the number of jails that are created at once.

use std::path::Path;

use plotters::prelude::*;

use crate::jails::COUNTS;
use crate::{Failure, Measured};

/// The ways, with their names in the samples.
const WAYS: [&str; 6] = [
    "loop",
    "parallel loop",
    "raw",
    "program",
    "ezz, created",
    "ezz",
];

/// Writes the plot of one boot: milliseconds a jail, both axes logarithmic.
pub fn creation(to: &Path, measured: &Measured) -> Result<(), Failure> {
    draw(to, measured).map_err(|error| Failure(format!("{}: {error}", to.display())))
}

fn draw(to: &Path, measured: &Measured) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(to, (800, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!("milliseconds a jail, OpenZFS {}", measured.zfs);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((1.0..1000.0).log_scale(), (0.5..500.0).log_scale())?;
    chart.configure_mesh().x_desc("jails at once").draw()?;
    for (at, way) in WAYS.iter().enumerate() {
        let points: Vec<(f64, f64)> = COUNTS
            .iter()
            .filter_map(|count| {
                let took = measured.median(&format!("create {count}: {way}"))?;
                let count = *count as f64;
                Some((count, took / count))
            })
            .collect();
        if points.is_empty() {
            continue;
        }
        let colour = Palette99::pick(at).to_rgba();
        chart
            .draw_series(LineSeries::new(points.clone(), &colour))?
            .label(*way)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
        chart.draw_series(
            points
                .iter()
                .map(|point| Circle::new(*point, 3, colour.filled())),
        )?;
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}
