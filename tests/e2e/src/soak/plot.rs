//! The run as a picture: memory and descriptors of each process over time, with a line where something was struck.

#![allow(clippy::cast_precision_loss, reason = "what is counted here are minutes and a few names")]

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::sampler::{Sample, Value};
use super::schedule::Fault;
use super::verdict::{Facts, Mark};

/// Size of the picture, and of each of its two panels in it.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 944.0;
const PANELS: [(f64, f64); 2] = [(64.0, 276.0), (324.0, 512.0)];

/// Lines across a panel.
const GRID: u32 = 4;

/// Minutes between two numbers below.
const MINUTES: usize = 5;

/// One panel: what it shows, and of which value.
struct Panel {
    title: &'static str,
    top: f64,
    bottom: f64,
    most: f64,
    value: Value,
}

impl Panel {
    fn y(&self, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * value / self.most
    }
}

/// The picture, as SVG.
pub(super) fn svg(facts: &Facts) -> Result<String, fmt::Error> {
    let mut text = String::new();
    draw(&mut text, facts)?;
    Ok(text)
}

fn draw(text: &mut String, facts: &Facts) -> fmt::Result {
    writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"
    )?;
    let titles: [(&'static str, Value); 2] = [
        ("resident memory, MiB", |sample| sample.resident / 1024.0),
        ("open file descriptors", |sample| sample.descriptors),
    ];
    legend(text)?;
    for ((title, value), (top, bottom)) in titles.into_iter().zip(PANELS) {
        let most = facts.samples.iter().map(value).fold(0.0, f64::max);
        let panel = Panel { title, top, bottom, most: round_up(most * 1.1), value };
        frame(text, &panel, facts)?;
        for mark in &facts.marks {
            strike(text, &panel, facts, mark)?;
        }
        for samples in runs(&facts.samples).values() {
            line(text, &panel, facts, samples)?;
        }
    }
    writeln!(text, "</svg>")
}

/// The samples of each process, while it led and while it did not.
fn runs(samples: &[Sample]) -> BTreeMap<(u32, bool), Vec<&Sample>> {
    let mut runs = BTreeMap::<_, Vec<&Sample>>::new();
    for sample in samples {
        runs.entry((sample.process, sample.leads)).or_default().push(sample);
    }
    runs
}

/// Up to a number whose fourth is short: a multiple of 4, 40, 400.
fn round_up(most: f64) -> f64 {
    let step = 4.0 * 10_f64.powf(most.max(10.0).log10().floor() - 1.0);
    (most.max(1.0) / step).ceil() * step
}

fn x(facts: &Facts, at: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * at / facts.length.as_secs_f64().max(1.0)
}

fn frame(text: &mut String, panel: &Panel, facts: &Facts) -> fmt::Result {
    let Panel { title, top, bottom, most, .. } = panel;
    writeln!(text, "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{title}</text>", top - 8.0)?;
    for step in 0..=GRID {
        let value = most * f64::from(step) / f64::from(GRID);
        let y = panel.y(value);
        writeln!(text, "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"#ddd\"/>")?;
        writeln!(text, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>", LEFT - 6.0, y + 4.0)?;
    }
    for minute in (0..=facts.length.as_secs() / 60).step_by(MINUTES) {
        let x = x(facts, minute as f64 * 60.0);
        writeln!(text, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{minute} min</text>", bottom + 18.0)?;
    }
    Ok(())
}

fn strike(text: &mut String, panel: &Panel, facts: &Facts, mark: &Mark) -> fmt::Result {
    let (x, Panel { top, bottom, .. }) = (x(facts, mark.at), panel);
    let colour = Group::of(mark.fault).colour();
    let told = format!("{:.0} s: {}, well again after {:.1} s", mark.at, mark.fault.name(), mark.took);
    writeln!(
        text,
        "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"{colour}\" opacity=\"0.45\"><title>{told}</title></path>"
    )
}

fn line(text: &mut String, panel: &Panel, facts: &Facts, samples: &[&Sample]) -> fmt::Result {
    let leads = samples.first().is_some_and(|sample| sample.leads);
    let (colour, width) = if leads { ("#111", 2.0) } else { ("#888", 1.0) };
    write!(text, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" points=\"")?;
    for sample in samples {
        write!(text, "{:.1},{:.1} ", x(facts, sample.at), panel.y((panel.value)(sample)))?;
    }
    writeln!(text, "\"/>")
}

fn legend(text: &mut String) -> fmt::Result {
    let lines = [("the leader", "#111"), ("the follower", "#888")];
    let marks = Group::ALL.map(|group| (group.name(), group.colour()));
    for (number, (name, colour)) in lines.into_iter().chain(marks).enumerate() {
        let x = LEFT + number as f64 * 140.0;
        writeln!(text, "<path d=\"M{x} 20h18\" stroke=\"{colour}\" stroke-width=\"3\"/>")?;
        writeln!(text, "<text x=\"{}\" y=\"24\">{name}</text>", x + 24.0)?;
    }
    Ok(())
}

/// What was struck, by colour.
#[derive(Clone, Copy, Debug)]
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

    fn colour(self) -> &'static str {
        match self {
            Self::Leader => "#d62728",
            Self::Follower => "#ff9f40",
            Self::Cluster => "#1f77b4",
            Self::Azure => "#2ca02c",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test that can't go on ends; whole numbers are exact")]

    use super::super::verdict::tests::facts;
    use super::*;

    #[test]
    fn every_process_has_a_line_and_every_strike_a_mark_in_both_panels() {
        let picture = svg(&facts(|_| 10_240.0)).unwrap();
        assert_eq!(picture.matches("<polyline").count(), 6);
        assert_eq!(picture.matches("leader told to end").count(), 2);
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }

    #[test]
    fn a_run_in_which_nothing_was_seen_is_an_empty_picture() {
        let mut nothing = facts(|_| 0.0);
        nothing.samples.clear();
        let picture = svg(&nothing).unwrap();
        assert!(!picture.contains("<polyline") && !picture.contains("NaN"), "{picture}");
    }

    #[test]
    fn the_scale_ends_above_the_most() {
        assert_eq!([0.0, 12.1, 125.0, 160.0].map(round_up), [4.0, 16.0, 160.0, 160.0]);
    }
}
