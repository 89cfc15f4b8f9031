//! Draws charts, as SVG to stand in a page. Coordinates of the library are whole pixels, so everything is
//! drawn larger than it is shown by [`FINE`].

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::{Axis, Scale};
use super::palette::{AXIS, GRID, INK, Shade};
use crate::report::document::Range;
use crate::report::text::number_text;

/// Pixels of drawing per pixel of the page.
const FINE: i32 = 2;
const BARS_WIDTH: i32 = 370 * FINE;
const LINES_WIDTH: i32 = 560 * FINE;
const LINES_HEIGHT: i32 = 250 * FINE;
/// Of a font, in the library's way of counting (1.24 × the page's).
const FONT: f64 = 15.0 * FINE as f64;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A line, in values.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) shade: Shade,
    /// Drawn thin: the lesser of two lines of a peer.
    pub(super) thin: bool,
    /// Interrupted where there is nothing.
    pub(super) points: Vec<Option<(f64, f64)>>,
}

/// A bar with its spread.
#[derive(Debug, Clone)]
pub(super) struct Bar<'a> {
    pub(super) name: &'a str,
    pub(super) shade: Shade,
    pub(super) range: Range,
}

/// What both axes are, and where upright lines part the chart (in values).
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) across: (&'static str, Scale),
    pub(super) up: (&'static str, Scale),
    pub(super) parts: Vec<f64>,
}

/// Lines over two axes; nothing where no line has a point.
pub(super) fn lines(frame: &Frame, lines: &[Line]) -> Option<String> {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied().flatten());
    let across = Axis::fit(frame.across.0, frame.across.1, points().map(|point| point.0))?;
    let up = Axis::fit(frame.up.0, frame.up.1, points().map(|point| point.1))?;
    Some(drawn((LINES_WIDTH, LINES_HEIGHT), |area| draw_lines(area, &across, &up, frame, lines)))
}

/// Bars that lie, one below the other; nothing of none.
pub(super) fn bars(bars: &[Bar<'_>]) -> Option<String> {
    let most = bars.iter().map(|bar| bar.range.max).reduce(f64::max)?;
    let height = (bars.len() as i32 * 28 + 6) * FINE;
    Some(drawn((BARS_WIDTH, height), |area| draw_bars(area, bars, if most > 0.0 { most } else { 1.0 })))
}

fn drawn((width, height): (i32, i32), draw: impl FnOnce(&Area<'_>) -> Result<(), DrawingError>) -> String {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (width as u32, height as u32)).into_drawing_area();
    draw(&area).and_then(|()| area.present()).expect("a String takes every drawing");
    drop(area);
    embedded(&svg)
}

type DrawingError = DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>;

/// Inside of a page an SVG needs no name space, and its size is the page's business.
fn embedded(svg: &str) -> String {
    let (head, body) = svg.split_once('>').unwrap_or_default();
    let view = head.find("viewBox").map_or("", |at| &head[at..]);
    let view = view.split_inclusive('"').take(2).collect::<String>();
    format!("<svg {view} aria-hidden=\"true\">{body}")
}

fn font(shade: Shade) -> TextStyle<'static> {
    let mut style = ("sans-serif", FONT).into_text_style(&(LINES_WIDTH as u32, LINES_HEIGHT as u32));
    style.color = shade.light().to_backend_color();
    style
}

fn draw_lines(
    area: &Area<'_>,
    across: &Axis,
    up: &Axis,
    frame: &Frame,
    lines: &[Line],
) -> Result<(), DrawingError> {
    let mut chart = ChartBuilder::on(area)
        .margin(8 * FINE)
        .margin_right(30 * FINE)
        .x_label_area_size(38 * FINE)
        .y_label_area_size(56 * FINE)
        .build_cartesian_2d(across.clone(), up.clone())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.light().stroke_width(FINE as u32))
        .axis_style(AXIS.light().stroke_width(FINE as u32))
        .label_style(font(INK))
        .x_desc(&across.title)
        .y_desc(&up.title)
        .draw()?;
    for place in frame.parts.iter().filter_map(|value| across.scale.place(*value)) {
        let style = AXIS.light().stroke_width(FINE as u32);
        chart.draw_series([PathElement::new([(place, up.range.start), (place, up.range.end)], style)])?;
    }
    for line in lines {
        let width = if line.thin { FINE as u32 } else { 2 * FINE as u32 };
        let style = line.shade.light().stroke_width(width);
        let place = |point: &Option<(f64, f64)>| {
            let (x, y) = (*point)?;
            Some((across.scale.place(x)?, up.scale.place(y)?))
        };
        let places: Vec<_> = line.points.iter().map(place).collect();
        for stretch in places.split(Option::is_none) {
            chart.draw_series(LineSeries::new(stretch.iter().copied().flatten(), style))?;
        }
    }
    Ok(())
}

fn draw_bars(area: &Area<'_>, bars: &[Bar<'_>], most: f64) -> Result<(), DrawingError> {
    let (left, right) = (112 * FINE, BARS_WIDTH - 66 * FINE);
    let place = |value: f64| left + (f64::from(right - left) * value / most) as i32;
    let text = |side| font(INK).pos(Pos::new(side, VPos::Center));
    for (index, bar) in bars.iter().enumerate() {
        let middle = (index as i32 * 28 + 18) * FINE;
        let (shade, Range { median, min, max }) = (bar.shade.light(), bar.range);
        let corners = [(left, middle - 9 * FINE), (place(median), middle + 9 * FINE)];
        area.draw(&Text::new(bar.name, (left - 8 * FINE, middle), text(HPos::Right)))?;
        area.draw(&Rectangle::new(corners, shade.filled()))?;
        if min < max {
            let style = INK.light().stroke_width(FINE as u32);
            let upright = |x| PathElement::new([(x, middle - 4 * FINE), (x, middle + 4 * FINE)], style);
            area.draw(&PathElement::new([(place(min), middle), (place(max), middle)], style))?;
            area.draw(&upright(place(min)))?;
            area.draw(&upright(place(max)))?;
        }
        let end = place(median.max(max)) + 8 * FINE;
        area.draw(&Text::new(number_text(median), (end, middle), text(HPos::Left)))?;
    }
    Ok(())
}
