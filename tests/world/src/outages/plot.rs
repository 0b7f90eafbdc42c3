//! The measurement as a picture.

use plotters::prelude::*;

use super::{Away, Endured, Error, LIFETIMES, OUTAGES};

/// Width and height in pixels.
const SIZE: (u32, u32) = (1000, 420);

/// Where nought is on an axis that has none, since each of its steps is a multiple of the one before.
const NOUGHT: f64 = 6.0;

/// Times that are written at the axes.
const TIMES: [(f64, &str); 9] = [
    (NOUGHT, "0"),
    (60.0, "1 min"),
    (300.0, "5 min"),
    (900.0, "15 min"),
    (1800.0, "30 min"),
    (3600.0, "1 h"),
    (4.0 * 3600.0, "4 h"),
    (12.0 * 3600.0, "12 h"),
    (86_400.0, "24 h"),
];

/// Draws how long a Secret held an expired token against how long an outage took, a picture for each who was away, a line
/// for each lifetime; as SVG.
///
/// # Errors
/// When the picture can't be drawn.
pub fn plot(endured: &[Endured]) -> Result<String, Error> {
    let mut svg = String::new();
    {
        let sheet = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        sheet.fill(&WHITE)?;
        for (area, away) in sheet.split_evenly((1, Away::ALL.len())).iter().zip(Away::ALL) {
            draw(area, away, endured)?;
        }
        sheet.present()?;
    }
    Ok(svg)
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    away: Away,
    endured: &[Endured],
) -> Result<(), Error> {
    let (first, last) = (f64::from(OUTAGES.0), f64::from(OUTAGES.1));
    let marks: Vec<f64> = TIMES.iter().map(|(seconds, _)| *seconds).collect();
    let lengths = (first..last).log_scale().with_key_points(marks.clone());
    let expired = (NOUGHT..last).log_scale().with_key_points(marks);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{} is away", away.name()), ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(60)
        .build_cartesian_2d(lengths, expired)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .x_desc("length of the outage")
        .y_desc("an expired token in the Secret for")
        .x_label_formatter(&|seconds| label(*seconds))
        .y_label_formatter(&|seconds| label(*seconds))
        .draw()?;
    for (number, lifetime) in LIFETIMES.into_iter().enumerate() {
        let line = endured.iter().filter(|one| one.away == away && one.lifetime == lifetime);
        #[expect(clippy::cast_precision_loss, reason = "a day has few seconds")]
        let points = line.map(|one| (f64::from(one.outage), (one.expired as f64).max(NOUGHT)));
        let style = Palette99::pick(number).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(format!("tokens live {}", told(lifetime)))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK.mix(0.2))
        .background_style(WHITE)
        .draw()?;
    Ok(())
}

fn label(seconds: f64) -> String {
    let found = TIMES.iter().find(|(known, _)| (known - seconds).abs() < 1.0);
    found.map_or_else(String::new, |(_, label)| (*label).to_owned())
}

fn told(lifetime: u32) -> String {
    if lifetime < 86_400 { format!("{} min", lifetime / 60) } else { "a day".to_owned() }
}
