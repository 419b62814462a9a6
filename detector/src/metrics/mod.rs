//! What Prometheus can ask for. The daemon serves no port of its own: the text goes through the socket, or to
//! a file that an exporter reads.

mod samples;
mod table;
pub mod textfile;

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, prometheus_text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

pub use samples::samples;
pub use table::{METRICS, Metric};

use crate::api::view::MetricsView;

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// As the table has it.
    pub name: &'static str,
    /// Values of the labels that the table names, in that order.
    pub labels: Vec<String>,
    pub value: f64,
}

/// The text that Prometheus reads (text format 0.0.4).
pub fn text(view: &MetricsView) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Samples(samples(view))));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Samples(Vec<Sample>);

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in METRICS {
            let mut samples = self.0.iter().filter(|sample| sample.name == metric.name).peekable();
            if samples.peek().is_none() {
                continue;
            }
            let (name, kind) = match metric.name.strip_suffix("_total") {
                // The encoder puts it back.
                Some(name) => (name, MetricType::Counter),
                None => (metric.name, MetricType::Gauge),
            };
            let help = metric.help;
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for Sample { labels, value, .. } in samples {
                let labels: Vec<_> = metric.labels.iter().copied().zip(labels).collect();
                let one = family.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(*value).encode(one)?,
                    _ => ConstGauge::new(*value).encode(one)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
