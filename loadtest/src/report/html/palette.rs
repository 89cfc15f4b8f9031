//! Colours. Charts are drawn in the light ones; in the dark the style sheet puts others in their place.

use std::fmt::Write;

use plotters::style::RGBColor;

/// A colour on light ground and on dark ground.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shade(u32, u32);

pub(super) const INK: Shade = Shade(0x24_29_2F, 0xE6_ED_F3);
pub(super) const AXIS: Shade = Shade(0x8C_95_9F, 0x76_80_8B);
pub(super) const GRID: Shade = Shade(0xE2_E6_EA, 0x2F_36_3D);

/// After Okabe and Ito: told apart with every kind of colour vision. A known peer keeps its colour from
/// page to page.
const KNOWN: [(&str, Shade); 6] = [
    ("floor", Shade(0x6B_72_80, 0x9C_A3_AF)),
    ("nchan", Shade(0xD5_5E_00, 0xFF_8A_3D)),
    ("socketio-redis", Shade(0xB5_89_00, 0xF0_C4_45)),
    ("socketioxide", Shade(0xB0_50_8A, 0xE5_9C_C4)),
    ("fanfare-sio", Shade(0x00_9E_73, 0x2C_C9_9B)),
    ("fanfare-plain", Shade(0x00_72_B2, 0x56_A8_E8)),
];
const OTHERS: [Shade; 2] = [Shade(0x5B_3F_9E, 0xA9_8F_F0), Shade(0x7A_4B_2A, 0xC9_9A_78)];

impl Shade {
    /// That of a peer, the `index`th of its scenario.
    pub(super) fn of_peer(name: &str, index: usize) -> Self {
        let known = KNOWN.iter().find(|known| known.0 == name).map(|known| known.1);
        known.unwrap_or(OTHERS[index % OTHERS.len()])
    }

    /// As charts are drawn.
    pub(super) fn light(self) -> RGBColor {
        let [_, red, green, blue] = self.0.to_be_bytes();
        RGBColor(red, green, blue)
    }

    /// Names the colour in the page, as a property of the style sheet.
    pub(super) fn variable(self) -> String {
        format!("--c{:06X}", self.0)
    }
}

/// The part of the style sheet that knows colours.
pub(super) fn style_sheet() -> String {
    let all: Vec<Shade> =
        [INK, AXIS, GRID].into_iter().chain(KNOWN.map(|known| known.1)).chain(OTHERS).collect();
    let mut out = String::new();
    let mut write = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a String takes every write");
    write(format_args!(":root{{"));
    all.iter().for_each(|shade| write(format_args!("{}:#{:06X};", shade.variable(), shade.0)));
    write(format_args!("}}\n@media (prefers-color-scheme: dark){{:root{{"));
    all.iter().for_each(|shade| write(format_args!("{}:#{:06X};", shade.variable(), shade.1)));
    write(format_args!("}}}}\n"));
    for shade in all {
        for part in ["fill", "stroke"] {
            let (light, variable) = (shade.0, shade.variable());
            write(format_args!("svg [{part}=\"#{light:06X}\"]{{{part}:var({variable})}}\n"));
        }
    }
    out
}
