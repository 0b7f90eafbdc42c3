//! The run as a picture: memory and descriptors of each process over time, with a line where something was struck.

#![allow(clippy::cast_precision_loss, reason = "what is counted here are minutes")]

use std::collections::BTreeMap;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::sampler::{Sample, Value};
use super::schedule::Fault;
use super::verdict::Facts;

/// Width and height in pixels.
const SIZE: (u32, u32) = (960, 640);

/// What a panel shows, and where its legend hides nothing.
struct Panel {
    title: &'static str,
    value: Value,
    legend: SeriesLabelPosition,
}

const PANELS: [Panel; 2] = [
    Panel {
        title: "resident memory, MiB",
        value: |sample| sample.resident / 1024.0,
        legend: SeriesLabelPosition::LowerRight,
    },
    Panel {
        title: "open file descriptors",
        value: |sample| sample.descriptors,
        legend: SeriesLabelPosition::MiddleRight,
    },
];

/// The picture, as SVG.
pub(super) fn svg(facts: &Facts) -> anyhow::Result<String> {
    let mut text = String::new();
    {
        let sheet = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        sheet.fill(&WHITE)?;
        for (area, panel) in sheet.split_evenly((PANELS.len(), 1)).iter().zip(PANELS) {
            draw(area, panel, facts)?;
        }
        sheet.present()?;
    }
    Ok(text)
}

fn draw(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: Panel, facts: &Facts) -> anyhow::Result<()> {
    let Panel { title, value, legend } = panel;
    let most = facts.samples.iter().map(value).fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .margin_right(30)
        .x_label_area_size(24)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..facts.length.as_secs_f64() / 60.0, 0.0..most)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|minute| format!("{minute:.0} min"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    for group in Group::ALL {
        let struck = facts.marks.iter().filter(|mark| Group::of(mark.fault) == group).map(|mark| mark.at / 60.0);
        let lines = struck.map(|at| PathElement::new([(at, 0.0), (at, most)], group.colour()));
        chart.draw_series(lines)?.label(group.name()).legend(key(group.colour().stroke_width(3)));
    }
    for (leads, name, style) in
        [(true, "the leader", BLACK.stroke_width(2)), (false, "the follower", BLACK.mix(0.5).stroke_width(1))]
    {
        let mut labelled = Some(name);
        for samples in runs(&facts.samples, leads).values() {
            let points = samples.iter().map(|sample| (sample.at / 60.0, value(sample)));
            let series = chart.draw_series(LineSeries::new(points, style))?;
            if let Some(name) = labelled.take() {
                series.label(name).legend(key(style));
            }
        }
    }
    chart.configure_series_labels().position(legend).border_style(BLACK.mix(0.2)).background_style(WHITE).draw()?;
    Ok(())
}

/// What stands for a line in the legend.
fn key(style: ShapeStyle) -> impl Fn((i32, i32)) -> PathElement<(i32, i32)> {
    move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style)
}

/// The samples of each process, while it led or while it did not.
fn runs(samples: &[Sample], leads: bool) -> BTreeMap<u32, Vec<&Sample>> {
    let mut runs = BTreeMap::<_, Vec<&Sample>>::new();
    for sample in samples.iter().filter(|sample| sample.leads == leads) {
        runs.entry(sample.process).or_default().push(sample);
    }
    runs
}

/// What was struck, by colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Leader,
    Follower,
    Cluster,
    Azure,
}

impl Group {
    const ALL: [Self; 4] = [Self::Leader, Self::Follower, Self::Cluster, Self::Azure];

    fn of(fault: Fault) -> Self {
        match fault {
            Fault::KillLeader | Fault::EndLeader | Fault::StopLeader => Self::Leader,
            Fault::KillFollower | Fault::EndFollower => Self::Follower,
            Fault::KillServer | Fault::StopServer | Fault::KillEtcd | Fault::KillManager => Self::Cluster,
            Fault::RefuseTokens | Fault::SilenceAzure => Self::Azure,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader struck",
            Self::Follower => "follower struck",
            Self::Cluster => "Kubernetes struck",
            Self::Azure => "Azure struck",
        }
    }

    fn colour(self) -> RGBAColor {
        match self {
            Self::Leader => RED,
            Self::Follower => MAGENTA,
            Self::Cluster => BLUE,
            Self::Azure => GREEN,
        }
        .mix(0.45)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on ends")]

    use super::super::verdict::tests::facts;
    use super::*;

    #[test]
    fn every_process_has_a_line_and_what_was_struck_is_named_in_both_panels() {
        let with = svg(&facts(|_| 10_240.0)).unwrap();
        let mut spared = facts(|_| 10_240.0);
        spared.marks.clear();
        let lines = |picture: &str| picture.matches("<polyline").count();
        assert_eq!(lines(&with), lines(&svg(&spared).unwrap()) + 2);
        spared.samples.retain(|sample| sample.leads);
        assert_eq!(lines(&with), lines(&svg(&spared).unwrap()) + 2 * 3, "the mark, the follower and its key");
        assert!(!with.contains("NaN") && !with.contains("inf"), "{with}");
    }

    #[test]
    fn a_run_in_which_nothing_was_seen_is_an_empty_picture() {
        let mut nothing = facts(|_| 0.0);
        nothing.samples.clear();
        assert!(!svg(&nothing).unwrap().contains("NaN"));
    }
}
