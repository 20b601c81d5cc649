//! The tables as a picture: churn against the time until the files are right.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::{Row, Shape};

/// Colours that people who see no red, or no green, tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 3] =
    [RGBColor(0, 114, 178), RGBColor(230, 159, 0), RGBColor(204, 121, 167)];

/// Draws one line for each shape; both axes are logarithmic. A point is hollow where some changes
/// had not arrived when the measurement ended.
pub(crate) fn draw(results: &[(Shape, Vec<Row>)], file: &Path) -> Result<()> {
    let canvas = SVGBackend::new(file, (900, 480)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&canvas)
        .caption("100 confd on one Consul with 50,000 instances", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((0.9_f64..250.0).log_scale(), (1.0_f64..12_000.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("changes per second")
        .y_desc("change until every file is right, median (ms); hollow: fell behind")
        .draw()?;
    for (number, (shape, rows)) in results.iter().enumerate() {
        let color = COLOURS[number % COLOURS.len()];
        let points: Vec<(f64, f64)> = rows
            .iter()
            .map(|row| (f64::from(row.churn), row.median.as_secs_f64() * 1000.0))
            .collect();
        chart
            .draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?
            .label(shape.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        chart.draw_series(rows.iter().zip(points).map(|(row, point)| {
            let hollow = row.late > 0;
            Circle::new(
                point,
                4,
                ShapeStyle { color: color.into(), filled: !hollow, stroke_width: 2 },
            )
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    canvas.present()?;
    Ok(())
}
