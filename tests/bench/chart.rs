//! What each filter costs, as a picture.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::report::Report;

const BAR: u32 = 26;
const WIDTH: u32 = 860;
const OURS: RGBColor = RGBColor(0x1b, 0x7f, 0x5c);
const OTHERS: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);

/// Draws what each filter adds to a path.
pub(crate) fn draw(report: &Report, path: &Path) -> Result<()> {
    const SUFFIX: &str = " / unfiltered";
    let bars: Vec<_> = report
        .medians()
        .filter(|(name, _)| name.starts_with("tap to"))
        .filter_map(|(name, ratio)| Some((name.strip_suffix(SUFFIX)?, ratio)))
        .collect();
    let highest = bars.iter().map(|(_, ratio)| *ratio).fold(1.0, f64::max);
    let rows = bars.len();
    let height = BAR * u32::try_from(rows)? + 70;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", path.display());
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Processor time a frame, relative to no filter", ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(330)
        .build_cartesian_2d(0.0..highest * 1.05, (0..rows).into_segmented())
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(rows)
        .y_label_formatter(&|row| match row {
            SegmentValue::CenterOf(row) => {
                bars.get(rows - 1 - row).map_or("", |bar| bar.0).to_owned()
            }
            _ => String::new(),
        })
        .x_label_formatter(&|ratio| format!("{ratio:.1}"))
        .draw()
        .map_err(|error| failed(&error))?;
    let bar = |(row, (name, ratio)): (usize, &(&str, f64))| {
        let place = rows - 1 - row;
        let color = if name.ends_with("guarded") { OURS } else { OTHERS };
        let (low, high) = (SegmentValue::Exact(place), SegmentValue::Exact(place + 1));
        let mut bar = Rectangle::new([(0.0, low), (*ratio, high)], color.filled());
        bar.set_margin(4, 4, 0, 0);
        bar
    };
    chart.draw_series(bars.iter().enumerate().map(bar)).map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))
}
