use super::page;
use crate::report::document::Document;
use crate::report::gather::tests::document;

/// The part of a page that is about one scenario.
fn section<'a>(page: &'a str, name: &str) -> &'a str {
    let from = page.find(&format!("<section id=\"{name}\">")).unwrap_or_else(|| panic!("{name} is missing"));
    let length = page[from..].find("</section>").unwrap();
    &page[from..from + length]
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let page = page(&document());
    for outside in ["http:", "https:", "//", "src=", "href=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn each_scenario_has_its_charts_and_only_those_with_something_to_show() {
    let page = page(&document());
    let hot = section(&page, "f1");
    let charts = [
        "CPU µs/delivery",
        "deliveries/s",
        "p50 ms",
        "p99 ms",
        "Latency by percentile",
        "Latency over time",
        "Deliveries over time",
        "CPU of the server over time",
        "CPU of the bus over time",
        "CPU of the generator over time",
        "Resident memory over time",
    ];
    for chart in charts {
        assert!(hot.contains(&format!("<h3>{chart}")), "{chart}");
    }
    assert_eq!(hot.matches("<svg ").count(), charts.len());
    assert_eq!(hot.matches("<figure>").count(), charts.len());
    let idle = section(&page, "idle");
    assert_eq!(idle.matches("<svg ").count(), 2, "memory and CPU");
    assert!(idle.contains("RSS KiB/conn"));
}

#[test]
fn a_line_per_peer_is_interrupted_between_rounds_and_where_nothing_was_timed() {
    let mut document = document();
    document.scenarios.truncate(1);
    let scenario = &mut document.scenarios[0];
    scenario.peers.retain(|peer| peer.name == "nchan");
    let page = page(&document);
    let chart = page.split("<figure>").find(|part| part.contains("Resident memory over time")).unwrap();
    assert_eq!(chart.matches("stroke=\"#D55E00\"").count(), 3, "three rounds");
    let chart = page.split("<figure>").find(|part| part.contains("Latency over time")).unwrap();
    assert_eq!(chart.matches("stroke=\"#D55E00\"").count(), 12, "p50 and p99, three rounds, a gap in each");
}

#[test]
fn figures_ratios_limits_and_remarks_are_told() {
    let page = page(&document());
    let hot = section(&page, "f1");
    assert!(hot.contains("CPU µs/delivery ÷ floor") && hot.contains("p99 ms ÷ nchan"));
    assert!(!hot.contains("÷ fanfare"), "fanfare is no base");
    assert!(hot.contains("nchan: 3 lost, 0 duplicated, 0 out of order"));
    assert!(hot.contains("fanfare-plain: result not valid: the generator was more than 90 % busy"));
    assert!(hot.contains("<td>f1:floor ≤ 1.1</td>") && hot.contains("class=\"missed\">MISSED"));
    assert!(hot.contains("class=\"generator-bound\">generator-bound"));
    assert!(section(&page, "idle").contains("class=\"held\">holds"));
    assert!(page.contains("loadtest run f1 idle --fanfare-arg 'a b'"));
    assert!(page.contains("fanfare 0.1.0, Redis 7.0.15"));
}

#[test]
fn names_cannot_become_markup() {
    const EVIL: &str = "<script>alert('1')</script>\"&";
    let mut document = document();
    document.run.arguments.push(EVIL.into());
    document.run.versions.insert(EVIL.into(), EVIL.into());
    document.machine.cpu = Some(EVIL.into());
    document.figures[0].heading = EVIL.into();
    document.limits[0].limit = EVIL.into();
    let scenario = &mut document.scenarios[0];
    scenario.name = EVIL.into();
    scenario.about = EVIL.into();
    scenario.peers[0].name = EVIL.into();
    scenario.peers[0].remarks = vec![EVIL.into()];
    let page = page(&document);
    assert!(!page.contains("<script"));
    assert!(page.matches("&lt;script&gt;").count() >= 10);
    assert!(!page.contains("\"&\"") && !page.contains("id=\"<"));
}

#[test]
fn an_empty_document_is_a_page_too() {
    let mut document: Document = document();
    document.limits.clear();
    for scenario in &mut document.scenarios {
        for peer in &mut scenario.peers {
            peer.figures.clear();
            peer.latency_curve.clear();
            peer.rounds.clear();
        }
    }
    assert!(!page(&document).contains("<svg"));
    document.scenarios.clear();
    assert!(page(&document).contains("0 scenarios, 0 rounds"));
}
