"""The page's look: one style sheet for screens light and dark, phones and paper."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fcfdfb; --sheet: #ffffff; --wash: #f1f5f0; --line: #d9e2da; --rule: #b9c7bc;
  --ink: #17211b; --soft: #4c5b51; --link: #1b6444;
  --dense: #66758a; --pruned: #1d7a4f; --back: #b23c17; --limit: #8a5a00;
  --zone: #1d7a4f17; --good-wash: #e6f3ea; --bad-wash: #fbeee3;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", "Roboto Mono", Menlo, Consolas, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #101512; --sheet: #161d19; --wash: #1b2420; --line: #2a362f; --rule: #44544a;
    --ink: #e6ede8; --soft: #a3b3a9; --link: #7fd3a6;
    --dense: #94a5bd; --pruned: #5cc48f; --back: #f28b62; --limit: #e0b458;
    --zone: #5cc48f1c; --good-wash: #16291f; --bad-wash: #2e2018;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Open Sans", "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
.page { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem 4rem; }
a { color: var(--link); text-underline-offset: .18em; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 3px; border-radius: 3px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--sheet); padding: .5rem 1rem; z-index: 2; }
header { padding: 3rem 0 0; }
.kicker { margin: 0; font-size: .8125rem; letter-spacing: .08em; text-transform: uppercase; color: var(--soft); }
h1 { font-size: clamp(1.6rem, 1.1rem + 2.2vw, 2.4rem); line-height: 1.15; letter-spacing: -.018em; font-weight: 650;
  margin: .35rem 0 .4rem; text-wrap: balance; }
h2 { font-size: 1.3rem; line-height: 1.25; letter-spacing: -.01em; font-weight: 640; margin: 0 0 .35rem;
  text-wrap: balance; }
h3 { font-size: 1rem; font-weight: 640; margin: 1.75rem 0 .35rem; }
p { margin: 0 0 .75rem; max-width: 44rem; }
.soft, .lead { color: var(--soft); }
.byline { color: var(--soft); margin: 0; }
nav { margin: 1.4rem 0 0; border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); padding: .55rem 0; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.15rem; margin: 0; padding: 0;
  font-size: .875rem; }
nav a { text-decoration: none; display: inline-block; padding: .15rem 0; }
nav a:hover { text-decoration: underline; }
section { margin-top: 3.25rem; scroll-margin-top: 1rem; }
.verdict { margin-top: 1.5rem; padding: 1.35rem 1.5rem 1.4rem; border-radius: .75rem; background: var(--good-wash);
  border-left: .4rem solid var(--pruned); }
.verdict.missed { background: var(--bad-wash); border-color: var(--back); }
.verdict h2 { font-size: .95rem; margin-bottom: .3rem; color: var(--pruned-text, var(--ink)); }
.verdict p { font-size: 1.2rem; line-height: 1.42; margin: 0; max-width: 50rem; text-wrap: pretty; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11.5rem, 1fr)); gap: 1px; margin: 1.25rem 0 0;
  padding: 0; background: var(--line); border: 1px solid var(--line); border-radius: .75rem; overflow: hidden; }
.tiles > div { min-width: 0; background: var(--sheet); padding: 1rem 1.15rem 1.05rem; }
.tiles dt { font-size: .8125rem; color: var(--soft); }
.tiles dd { margin: 0; }
.tiles .value { font-size: 1.8rem; line-height: 1.25; font-weight: 620; letter-spacing: -.02em; }
.tiles .unit { font-size: .62em; font-weight: 500; letter-spacing: 0; }
.tiles .detail { font-size: .8125rem; color: var(--soft); }
.provenance { font-size: .75rem; font-style: italic; font-weight: 400; letter-spacing: 0; color: var(--soft);
  white-space: nowrap; }
.box { overflow-x: auto; margin: 1rem 0 0; }
table { border-collapse: collapse; width: 100%; font-size: .9375rem; line-height: 1.4; }
caption { text-align: left; font-size: .8125rem; color: var(--soft); padding: 0 0 .45rem; }
caption span { position: sticky; left: 0; display: inline-block; max-width: min(44rem, calc(100vw - 2rem)); }
th, td { text-align: right; vertical-align: baseline; padding: .5rem .75rem; border-bottom: 1px solid var(--line);
  overflow-wrap: normal; }
td { white-space: nowrap; }
.barred th, .barred td { vertical-align: middle; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
thead th { font-size: .8125rem; font-weight: 600; color: var(--soft); border-bottom-color: var(--rule);
  white-space: nowrap; vertical-align: bottom; }
tbody th { font-weight: 500; }
.counted tbody th { width: 3.5rem; }
.names tbody th { overflow-wrap: anywhere; min-width: 6.5rem; }
td .provenance { display: block; line-height: 1.2; }
.names td .provenance, .counted td .provenance { display: inline; }
td.words, th.words { text-align: left; }
td.words { white-space: normal; }
td.words.last { min-width: 13rem; width: 38%; }
.names tbody th, .exact { font-family: var(--mono); font-size: .8125rem; }
.mark { white-space: nowrap; font-weight: 550; }
.kept { color: var(--pruned); } .back { color: var(--back); }
.bars { min-width: 9rem; width: 44%; }
.bar { display: block; height: .62rem; border-radius: 2px; min-width: 1px; margin: .12rem 0; width: var(--share);
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.bar.dense { background: var(--dense); }
.bar.pruned { background: var(--pruned); }
.track { display: block; position: relative; height: 1.1rem; print-color-adjust: exact;
  -webkit-print-color-adjust: exact; background: linear-gradient(var(--rule), var(--rule)) 50% 0 / 1px 100% no-repeat; }
.track i { position: absolute; top: .25rem; height: .6rem; border-radius: 2px; background: var(--dense);
  min-width: 2px; }
.track i.far { background: var(--back); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: .5rem 0 0; padding: 0;
  font-size: .8125rem; color: var(--soft); }
.legend li { display: flex; align-items: center; gap: .45rem; }
.legend svg, .legend .bar { flex: none; }
.legend .bar { width: 1.4rem; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15.5rem), 1fr)); gap: .95rem 2rem;
  margin: 1rem 0 0; }
dl.facts dt { font-size: .8125rem; color: var(--soft); }
dl.facts dd { margin: 0; }
dl.facts .wide { grid-column: 1 / -1; }
figure { margin: 1.1rem 0 0; }
figcaption { font-size: .8125rem; color: var(--soft); margin-top: .5rem; max-width: 44rem; }
svg.chart { display: block; width: 100%; height: auto; }
svg.narrow { display: none; }
svg text { font-size: 12.5px; fill: var(--soft); paint-order: stroke; stroke: var(--paper); stroke-width: 3px;
  stroke-linejoin: round; }
svg .strong { fill: var(--ink); font-weight: 600; }
svg .target { fill: var(--limit); }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--rule); }
svg .limit { stroke: var(--limit); stroke-dasharray: 5 4; stroke-width: 1.5; }
svg .zone { fill: var(--zone); }
svg .path { fill: none; stroke: var(--pruned); stroke-width: 1.5; opacity: .55; }
svg .accepted { fill: var(--pruned); stroke: var(--sheet); stroke-width: 1.5; }
svg .rejected { fill: none; stroke: var(--back); stroke-width: 2.25; stroke-linecap: round; }
svg .start { fill: var(--dense); stroke: var(--sheet); stroke-width: 1.5; }
svg .ring { fill: none; stroke: var(--pruned); stroke-width: 2; }
svg .error { stroke: var(--pruned); stroke-width: 2; }
svg .whisker { stroke: var(--rule); stroke-width: 2; }
pre { margin: 1rem 0 0; padding: 1rem 1.15rem; background: var(--wash); border: 1px solid var(--line);
  border-radius: .6rem; overflow-x: auto; font: .8125rem/1.55 var(--mono); tab-size: 2; }
code { font-family: var(--mono); font-size: .875em; }
footer { margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: .8125rem;
  color: var(--soft); }
@media (max-width: 40rem) {
  .page { padding: 0 1rem 3rem; }
  header { padding-top: 1.75rem; }
  section { margin-top: 2.5rem; }
  .verdict { padding: 1.1rem 1.15rem; }
  .verdict p { font-size: 1.08rem; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .tiles > div { padding: .8rem .9rem; }
  .tiles .value { font-size: 1.4rem; }
  svg.wide { display: none; }
  svg.narrow { display: block; }
  table { font-size: .78rem; }
  thead th, caption { font-size: .75rem; }
  th, td { padding: .45rem .3rem; }
  .provenance { font-size: .6875rem; }
  .names td .provenance, .counted td .provenance { display: block; }
  .bars { min-width: 5rem; width: 30%; }
}
@media print {
  @page { size: A4; margin: 16mm 15mm 18mm; }
  :root {
    color-scheme: light;
    --paper: #fff; --sheet: #fff; --wash: #f4f7f4; --line: #d3dcd5; --rule: #a9b8ad;
    --ink: #111; --soft: #45524a; --link: #111;
    --dense: #66758a; --pruned: #1d7a4f; --back: #b23c17; --limit: #8a5a00;
    --zone: #1d7a4f14; --good-wash: #fff; --bad-wash: #fff;
  }
  html { font-size: 12.5px; }
  body { line-height: 1.4; }
  .page { max-width: none; padding: 0; }
  header { padding: 0; }
  nav, .skip { display: none; }
  section { margin-top: 8mm; }
  h2, h3, caption, .lead, section > p, section > .legend { break-after: avoid; }
  p, tr, figure, dl > div, .verdict, .tiles, .short { break-inside: avoid; }
  thead { display: table-header-group; }
  .box { overflow: visible; }
  th, td { padding: 1.2mm 2mm; }
  .names tbody th, td.words, td.words.last, .bars { min-width: 0; }
  td { white-space: normal; }
  pre { white-space: pre-wrap; overflow: visible; break-inside: avoid; }
  .verdict { border: 1px solid var(--rule); border-left: .4rem solid var(--pruned); padding: 4mm 5mm; }
  dl.facts { grid-template-columns: repeat(3, 1fr); gap: 2.5mm 6mm; }
  .tiles { grid-template-columns: repeat(4, 1fr); }
  svg.wide { display: block; } svg.narrow { display: none; }
}
"""
