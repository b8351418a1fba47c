"""The look of a report: one style sheet, for light and for dark, on screen and on paper."""

SHEET = """
:root { color-scheme: light dark; --ink: #1d2530; --soft: #5b6775; --rule: #dfe4ea; --page: #fbfcfd;
  --card: #ffffff; --c0: #2166ac; --c1: #c2570c; --c2: #1b7f5c; --c3: #8a3ea8; --c4: #b3264a;
  --c5: #6b7a00; --c6: #00798c; --c7: #8593a3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf1; --soft: #9aa7b5; --rule: #2b3542;
  --page: #10151b; --card: #171e27; --c0: #6cb0f0; --c1: #f09a56; --c2: #58c79b; --c3: #c893e0;
  --c4: #f0809c; --c5: #c3d160; --c6: #5cc8d8; --c7: #7d8a99; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 28px 20px 60px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 10px; }
h3 { font-size: 14px; margin: 0 0 2px; font-weight: 600; }
p { margin: 0 0 10px; } .sentence { font-size: 17px; max-width: 75ch; }
.soft { color: var(--soft); }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 10px;
  margin: 18px 0 0; padding: 0; }
.facts div { background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  padding: 8px 12px; } .facts dt { color: var(--soft); font-size: 12px; } .facts dd { margin: 0;
  font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr));
  gap: 14px; } figure { margin: 0; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; padding: 12px 12px 8px; min-width: 0; }
figure p { font-size: 12px; color: var(--soft); margin: 2px 0 0; }
svg { display: block; width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif;
  fill: var(--soft); } text.y { text-anchor: end; } text.x, .mark text { text-anchor: middle; }
line.grid { stroke: var(--rule); } line.axis { stroke: var(--soft); }
polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .faint { opacity: .28;
  stroke-width: 1; } .b { opacity: .16; stroke: none; } .d line { stroke-width: 1.4; }
.l.c0, .d.c0 line { stroke: var(--c0); } .b.c0, .d.c0 circle { fill: var(--c0); }
.l.c1, .d.c1 line { stroke: var(--c1); } .b.c1, .d.c1 circle { fill: var(--c1); }
.l.c2, .d.c2 line { stroke: var(--c2); } .b.c2, .d.c2 circle { fill: var(--c2); }
.l.c3, .d.c3 line { stroke: var(--c3); } .b.c3, .d.c3 circle { fill: var(--c3); }
.l.c4, .d.c4 line { stroke: var(--c4); } .b.c4, .d.c4 circle { fill: var(--c4); }
.l.c5, .d.c5 line { stroke: var(--c5); } .b.c5, .d.c5 circle { fill: var(--c5); }
.l.c6, .d.c6 line { stroke: var(--c6); } .b.c6, .d.c6 circle { fill: var(--c6); }
.l.c7, .d.c7 line { stroke: var(--c7); } .b.c7, .d.c7 circle { fill: var(--c7); }
.mark line { stroke: var(--c4); stroke-dasharray: 4 3; } .mark text { fill: var(--c4);
  font-weight: 700; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; list-style: none; margin: 0 0 2px;
  padding: 0; font-size: 12px; color: var(--soft); } .legend i { display: inline-block; width: 10px;
  height: 10px; border-radius: 2px; margin-right: 5px; }
i.c0 { background: var(--c0); } i.c1 { background: var(--c1); } i.c2 { background: var(--c2); }
i.c3 { background: var(--c3); } i.c4 { background: var(--c4); } i.c5 { background: var(--c5); }
i.c6 { background: var(--c6); } i.c7 { background: var(--c7); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { text-align: left; vertical-align: top; padding: 5px 12px 5px 0;
  border-bottom: 1px solid var(--rule); } th { color: var(--soft);
  font-weight: 600; white-space: nowrap; } td { overflow-wrap: break-word; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { background: var(--page); border: 1px solid var(--rule); border-radius: 6px; padding: 8px 10px;
  margin: 6px 0 0; font: 12.5px/1.45 ui-monospace, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 300px; overflow-y: auto; }
.samples { display: grid; gap: 10px; grid-template-columns: repeat(auto-fill,
  minmax(min(100%, 380px), 1fr)); } .sample { background: var(--card); min-width: 0;
  border: 1px solid var(--rule); border-radius: 8px; padding: 10px 12px; }
.sample p { font-size: 13px; margin: 0; }
@media print { body { max-width: none; } figure, .sample { break-inside: avoid; } }
"""
