"""How the page looks, on screen and on paper."""

CSS = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --wash: #f6f8fa;
  --observed: #0072b2; --forecast: #d55e00; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 28px 64px; max-width: 1360px;
  color: var(--ink); background: #fff; line-height: 1.5;
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 21px; margin: 44px 0 8px; padding-top: 14px;
  border-top: 2px solid var(--ink); }
h3 { font-size: 16px; margin: 26px 0 6px; }
p, ul { max-width: 78ch; margin: 6px 0; }
nav { margin: 10px 0 18px; font-size: 14px; }
nav a { margin-right: 16px; }
a { color: #0550ae; }
small { font-size: 11px; color: var(--soft); font-weight: 400; }
dl.facts { display: grid; gap: 4px 26px; margin: 14px 0; padding: 14px 16px;
  grid-template-columns: repeat(auto-fill, minmax(290px, 1fr));
  background: var(--wash); border: 1px solid var(--line); border-radius: 6px; }
dl.facts div { display: flex; gap: 8px; min-width: 0; }
dl.facts dt { color: var(--soft); flex: 0 0 8.2em; }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.warning { border: 2px solid #b00020; border-left-width: 10px;
  padding: 10px 14px; margin: 14px 0; max-width: none; background: #fff5f5; }
.scroll { overflow-x: auto; margin: 8px 0 2px; }
table { border-collapse: collapse; font-size: 12.5px; width: 100%;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 4px 0; }
sup { line-height: 0; }
th, td { padding: 5px 3px 5px 5px; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--ink);
  font-weight: 600; line-height: 1.25; }
thead th:first-child, tbody th { text-align: left; font-weight: 500; }
td small, th small { display: block; white-space: nowrap; line-height: 1.35; }
td small { font-size: 10px; letter-spacing: -.03em; }
td b { font-weight: 800; text-decoration: underline;
  text-decoration-thickness: 1.5px; text-underline-offset: 3px; }
.arrow, .keep { white-space: nowrap; }
.arrow { font-weight: 400; }
tr.first th, tr.first td { border-top: 2px solid #8c959f; }
tr.finding th, tr.finding td { font-weight: 700; }
tr.statistic.first th, tr.statistic.first td { border-top: 0; }
tr.statistic th { padding-left: 18px; }
tr.finding td, tr.statistic td { text-align: left; }
tr.oracle { background: var(--wash); font-style: italic; }
ul.notes { font-size: 12px; color: var(--soft); padding-left: 18px;
  max-width: 110ch; }
figure { margin: 14px 0 22px; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: 13px; color: var(--soft); max-width: 100ch;
  margin-top: 5px; }
.stills { display: none; }
.stills img { margin-bottom: 8px; }
#still:checked ~ .panels .moving { display: none; }
#still:checked ~ .panels .stills { display: block; }
.key { display: inline-block; width: 26px; height: 13px; vertical-align: -2px;
  border: 3px solid; margin: 0 4px 0 10px; }
.key.observed { border-color: var(--observed); }
.key.forecast { border-color: var(--forecast); border-style: dashed; }
details > summary { cursor: pointer; color: var(--soft); }
@media (prefers-reduced-motion: reduce) {
  .moving { display: none; } .stills { display: block; }
  .toggle { display: none; } }
@media print {
  @page { size: A4 landscape; margin: 11mm; }
  body { padding: 0; max-width: none; font-size: 11px; }
  nav, .toggle { display: none; }
  h2 { break-after: avoid; } h3 { break-after: avoid; }
  section > div, tr, .scroll, .stills img { break-inside: avoid; }
  .panels { break-inside: auto !important; }
  figcaption { break-before: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 9.5px; } td small, th small { font-size: 7.5px; }
  th, td { padding: 3px 4px; }
  .moving { display: none; } .stills { display: block; }
  .stills img { max-height: 86mm; width: auto; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
