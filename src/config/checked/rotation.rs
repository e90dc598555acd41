//! What happens when a secret or template changes: the interval of comparisons, and the units to restart,
//! reload or signal, in their order.

use std::collections::BTreeMap;

use super::super::at::At;
use super::super::shape::nearest;
use super::super::written;
use super::{AFTERS, Checker};
use crate::domain::secret::{Rotation, Signal, Wave};
use crate::domain::unit_pattern::UnitPattern;

/// The keys of a secret or template.
pub(super) struct Written<'a> {
    refresh: Option<&'a At<String>>,
    restart_units: &'a [At<String>],
    reload_units: &'a [At<String>],
    signal_units: &'a BTreeMap<String, At<String>>,
    wave: Option<&'a At<written::Wave>>,
}

impl<'a> Written<'a> {
    pub(super) fn of_secret(written: &'a written::Secret) -> Self {
        Self {
            refresh: written.refresh.as_ref(),
            restart_units: &written.restart_units,
            reload_units: &written.reload_units,
            signal_units: &written.signal_units,
            wave: written.wave.as_ref(),
        }
    }

    pub(super) fn of_template(written: &'a written::Template) -> Self {
        Self {
            refresh: written.refresh.as_ref(),
            restart_units: &written.restart_units,
            reload_units: &written.reload_units,
            signal_units: &written.signal_units,
            wave: written.wave.as_ref(),
        }
    }
}

impl Checker<'_> {
    /// Checks the keys.
    pub(super) fn rotation(&mut self, written: &Written<'_>) -> Rotation {
        let refresh = self.refresh(written.refresh);
        let mut units = |entries: &[At<String>]| -> Vec<UnitPattern> {
            entries.iter().filter_map(|entry| self.unit_alone(entry)).collect()
        };
        let (restart_units, reload_units) = (units(written.restart_units), units(written.reload_units));
        let signals = written.signal_units.iter();
        let signal_units = signals.filter_map(|(unit, signal)| self.signal(unit, signal)).collect();
        let mut rotation = Rotation { refresh, restart_units, reload_units, signal_units, wave: None };
        rotation.wave = written.wave.and_then(|wave| self.wave(wave, &rotation));
        rotation
    }

    fn signal(&mut self, unit: &str, signal: &At<String>) -> Option<(UnitPattern, Signal)> {
        let unit = At { value: unit.to_owned(), place: signal.place, whole: true };
        let pattern = self.unit_alone(&unit);
        let known = Signal::parse(signal);
        if known.is_none() {
            let near = |name: &str| nearest(name, Signal::NAMES.into_iter());
            let remedy = match near(signal).or_else(|| near(&format!("SIG{}", signal.value))) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("use one of {}", Signal::NAMES.join(", ")),
            };
            let what = format!("{:?} is not a signal that can be sent", signal.value);
            self.problems.error(signal.place, what, remedy);
        }
        Some((pattern?, known?))
    }

    fn wave(&mut self, written: &At<written::Wave>, rotation: &Rotation) -> Option<Wave> {
        let entries = written.units.as_deref().unwrap_or_default();
        if entries.is_empty() && written.whole {
            let what = "the wave has no units";
            self.problems.error(
                written.place,
                what,
                "name the units that come first, for example \"units\": [\"app@1\"]",
            );
        }
        let mut units = Vec::new();
        for entry in entries {
            let Some(pattern) = self.unit_alone(entry) else { continue };
            if !rotation.units().any(|other| other.glob().covers(pattern.glob())) {
                let what = format!("{:?} of the wave is not restarted, reloaded or signalled", entry.value);
                let remedy =
                    "add it to \"restartUnits\", \"reloadUnits\" or \"signalUnits\", or remove it here";
                self.problems.error(entry.place, what, remedy);
            }
            units.push(pattern);
        }
        let after = self.duration(written.after.as_ref()?, "after", &AFTERS, "from 1s to 1d")?;
        Some(Wave { units, after })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use crate::config::from_text;
    use crate::domain::secret::Rotation;

    fn load(keys: &str) -> Result<Rotation, String> {
        let of = |holder: &str, entry: &str| {
            let text = format!(r#"{{ {holder}: [ {{ {entry}, {keys} }} ] }}"#);
            from_text(Path::new("s.json"), &text).map_err(|report| report.first_error())
        };
        let template = of("\"templates\"", r#""name": "t", "content": "{{op://v/i/f}}", "units": ["app"]"#)?;
        let secret = of("\"secrets\"", r#""name": "s", "reference": "op://v/i/f", "units": ["app"]"#)?;
        let rotation = secret.settings.policy.secrets().next().unwrap().rotation.clone();
        assert_eq!(format!("{rotation:?}"), format!("{:?}", template.settings.templates[0].rotation));
        Ok(rotation)
    }

    #[test]
    fn secrets_and_templates_have_the_same_keys() {
        let rotation = load(
            r#""refresh": "15m", "restartUnits": ["app@*"], "reloadUnits": ["web"], "signalUnits": { "job": "SIGHUP" },
               "wave": { "units": ["app@1", "job"], "after": "10m" }"#,
        )
        .unwrap();
        assert_eq!(rotation.refresh, Some(Duration::from_secs(900)));
        let units: Vec<_> = rotation.units().map(|units| units.glob().as_str()).collect();
        assert_eq!(units, ["app@*.service", "web.service", "job.service"]);
        assert_eq!(rotation.signal_units[0].1.as_str(), "SIGHUP");
        let wave = rotation.wave.unwrap();
        assert_eq!((wave.units.len(), wave.after), (2, Duration::from_secs(600)));
        assert!(!load(r#""refresh": "off""#).unwrap().names_units());
    }

    #[test]
    fn what_can_not_be_carried_out_is_an_error() {
        for (keys, expected) in [
            (r#""signalUnits": { "app": "HUP" }"#, "did you mean \"SIGHUP\"?"),
            (r#""signalUnits": { "app": "SIGKILL" }"#, "\"SIGKILL\" is not a signal that can be sent"),
            (r#""signalUnits": { "app": 1 }"#, "a string in double quotes"),
            (r#""signalUnits": { "app/id": "SIGHUP" }"#, "write \"app\""),
            (
                r#""restartUnits": ["app"], "wave": { "units": ["web"], "after": "1m" }"#,
                "\"web\" of the wave is not restarted",
            ),
            (r#""restartUnits": ["app"], "wave": { "units": [], "after": "1m" }"#, "the wave has no units"),
            (r#""restartUnits": ["app"], "wave": { "units": ["app"] }"#, "has no \"after\""),
            (r#""restartUnits": ["app"], "wave": { "after": "1m" }"#, "has no \"units\""),
            (r#""restartUnits": ["app"], "wave": { "units": ["app"], "after": "2d" }"#, "from 1s to 1d"),
        ] {
            let error = load(keys).unwrap_err();
            assert!(error.contains(expected), "{keys}: {error}");
        }
    }
}
