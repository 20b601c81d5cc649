//! The tables as a picture: churn against the time until the files are right.

use std::path::Path;

use anyhow::Result;
use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;

use super::{Row, Shape};

/// Colours that people who see no red, or no green, tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 3] =
    [RGBColor(0, 114, 178), RGBColor(230, 159, 0), RGBColor(204, 121, 167)];

/// Changes per second, on every chart.
const CHURN: std::ops::Range<f64> = 0.9..250.0;

/// Draws the times, and what they cost, one line for each shape; axes are logarithmic but that of the processor. A
/// point is hollow where some changes had not arrived when the measurement ended.
pub(crate) fn draw(results: &[(Shape, Vec<Row>)], folder: &Path) -> Result<()> {
    let file = folder.join("scale.svg");
    let canvas = SVGBackend::new(&file, (900, 480)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&canvas)
        .caption("100 confd on one Consul with 50,000 instances", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(CHURN.log_scale(), (1.0_f64..12_000.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("changes per second")
        .y_desc("change until every file is right, median (ms); hollow: fell behind")
        .draw()?;
    lines(&mut chart, results, true, |row| row.median.as_secs_f64() * 1000.0)?;
    legend(&mut chart, SeriesLabelPosition::LowerRight)?;
    canvas.present()?;

    let file = folder.join("scale-cost.svg");
    let canvas = SVGBackend::new(&file, (900, 420)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let (left, right) = canvas.split_horizontally(450);
    let mut chart = ChartBuilder::on(&left)
        .caption("Processor: Consul (full), all confd (thin)", ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(CHURN.log_scale(), 0.0_f64..200.0)?;
    chart.configure_mesh().x_desc("changes per second").y_desc("% of one core").draw()?;
    lines(&mut chart, results, true, |row| real(row.consul.percent))?;
    lines(&mut chart, results, false, |row| real(row.confd.percent))?;
    let mut chart = ChartBuilder::on(&right)
        .caption("Memory: Consul (full), one confd (thin)", ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(CHURN.log_scale(), (4.0_f64..16_000.0).log_scale())?;
    chart.configure_mesh().x_desc("changes per second").y_desc("MiB").draw()?;
    lines(&mut chart, results, true, |row| real(row.memory.0))?;
    lines(&mut chart, results, false, |row| real(row.memory.1))?;
    // Between Consul's lines and those of confd.
    legend(&mut chart, SeriesLabelPosition::Coordinate(87, 165))?;
    Ok(canvas.present()?)
}

/// A chart whose axes are of these kinds.
type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

/// Draws a line for each shape: a full one with points and a name, or a thin one.
fn lines<'a, X, Y>(
    chart: &mut Chart<'a, '_, X, Y>,
    results: &[(Shape, Vec<Row>)],
    full: bool,
    value: fn(&Row) -> f64,
) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    for (number, (shape, rows)) in results.iter().enumerate() {
        let color = COLOURS[number % COLOURS.len()];
        let points: Vec<(f64, f64)> =
            rows.iter().map(|row| (f64::from(row.churn), value(row))).collect();
        if !full {
            chart.draw_series(LineSeries::new(points, color.stroke_width(1)))?;
            continue;
        }
        chart
            .draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?
            .label(shape.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        chart.draw_series(rows.iter().zip(points).map(|(row, point)| {
            let style = ShapeStyle { color: color.into(), filled: row.late == 0, stroke_width: 2 };
            Circle::new(point, 4, style)
        }))?;
    }
    Ok(())
}

fn legend<'a, X, Y>(chart: &mut Chart<'a, 'a, X, Y>, position: SeriesLabelPosition) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    Ok(())
}

fn real(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
