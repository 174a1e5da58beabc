//! What a measurement prints: a figure, its unit, the baseline of the same run, the ratio, the target.

use std::borrow::Cow;

use serde_json::{Value, json};

/// One measured figure.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What was measured, in words.
    pub(crate) what: Cow<'static, str>,
    /// The value.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// A baseline of the same run and its name; the ratio is value over baseline.
    pub(crate) baseline: Option<(&'static str, f64)>,
    /// The target, and whether the value should be above or below it.
    pub(crate) target: Option<Target>,
}

/// What a figure should reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
}

impl Figure {
    /// A figure without baseline or target.
    pub(crate) fn new(what: impl Into<Cow<'static, str>>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, baseline: None, target: None }
    }

    /// Sets what to compare with.
    pub(crate) fn against(mut self, name: &'static str, baseline: f64) -> Self {
        self.baseline = Some((name, baseline));
        self
    }

    /// Sets what to reach.
    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.baseline.and_then(|(_, baseline)| (baseline > 0.0).then(|| self.value / baseline))
    }

    fn met(&self) -> Option<bool> {
        self.target.map(|target| match target {
            Target::AtLeast(least) => self.value >= least,
            Target::AtMost(most) => self.value <= most,
        })
    }

    /// The figure as an object.
    pub(crate) fn json(&self) -> Value {
        let target = self.target.map(|target| match target {
            Target::AtLeast(least) => json!({ "at_least": least }),
            Target::AtMost(most) => json!({ "at_most": most }),
        });
        json!({
            "what": self.what,
            "value": round(self.value),
            "unit": self.unit,
            "baseline": self.baseline.map(|(name, value)| json!({ "name": name, "value": round(value) })),
            "ratio": self.ratio().map(round),
            "target": target,
            "met": self.met(),
        })
    }

    /// The figure as a line for people.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{:<44} {:>12} {:<8}", self.what, number(self.value), self.unit);
        if let (Some((name, baseline)), Some(ratio)) = (self.baseline, self.ratio()) {
            line += &format!("  {ratio:.2} of {name} ({})", number(baseline));
        }
        if let (Some(target), Some(met)) = (self.target, self.met()) {
            let (sign, bound) = match target {
                Target::AtLeast(least) => ("≥", least),
                Target::AtMost(most) => ("≤", most),
            };
            line += &format!("  target {sign} {}: {}", number(bound), if met { "met" } else { "MISSED" });
        }
        line
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn number(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_said_in_both_forms() {
        let figure = Figure::new("rate", 50.0, "msg/s").against("echo", 100.0).target(Target::AtLeast(60.0));
        assert!(figure.line().contains("MISSED") && figure.line().contains("0.50 of echo"));
        assert_eq!(figure.json()["met"], false);
        assert_eq!(figure.json()["ratio"], 0.5);
    }
}
