"""The style of the report: one sheet, no outside font, light and dark, readable on a phone."""

CSS = """
:root { color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d2227; --soft: #5b656f; --line: #dcdfe2; --track: #e9ebed;
  --bar: #3b6ea8; --accent: #2a5c96; --live: #3b6ea8; --dropped: #d0862b; --hidden: #b3b9bf;
  --good: #1c7347; --good-bg: #e2f3e9; --bad: #a82a2f; --bad-bg: #fbe6e5; --mixed: #855600; --mixed-bg: #fbf0d6;
  --unknown: #55606b; --unknown-bg: #eceff1; --quote: #f4f4f1; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171a; --card: #1c2024; --ink: #e7e9eb; --soft: #a1abb4; --line: #363c43; --track: #2c3238;
  --bar: #79a9df; --accent: #8fb9ea; --live: #79a9df; --dropped: #e0a34f; --hidden: #626b74;
  --good: #7fd3a3; --good-bg: #173426; --bad: #f29a97; --bad-bg: #41201f; --mixed: #ecc06f; --mixed-bg: #3a2e14;
  --unknown: #b4bdc5; --unknown-bg: #2a3036; --quote: #23282d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
main, header, footer { max-width: 74rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.25rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.75rem 0 .35rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
p { margin: .35rem 0 .8rem; max-width: 46rem; }
.soft { color: var(--soft); } small, .small { font-size: .83rem; }
code, .name { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .9em; }
.name { overflow-wrap: anywhere; }
.headline { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 1.5rem 0 0;
  padding: 0; }
.headline > div, .card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .8rem 1rem; }
.headline dt { color: var(--soft); font-size: .83rem; } .headline dd { margin: 0; }
.headline .big { font-size: 1.65rem; line-height: 1.25; font-weight: 650; letter-spacing: -.01em; }
.flow { list-style: none; display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: 1rem;
  margin: 1rem 0; padding: 0; }
.flow > li { position: relative; background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .8rem 1rem; }
.flow .big { font-size: 1.4rem; font-weight: 650; }
.flow ul { list-style: none; margin: .4rem 0 0; padding: 0; font-size: .83rem; }
.flow ul li { display: flex; gap: .5rem; justify-content: space-between; border-top: 1px solid var(--line);
  padding: .2rem 0; }
.flow ul li b { font-weight: 600; white-space: nowrap; }
@media (min-width: 70rem) { .flow { grid-template-columns: repeat(5, 1fr); gap: 1.5rem; }
  .flow > li + li::before { content: "→"; position: absolute; left: -1.25rem; top: .75rem;
  color: var(--soft); font-size: 1.05rem; } }
.stack { display: flex; height: .55rem; border-radius: .3rem; overflow: hidden; background: var(--track);
  margin: .45rem 0; }
.stack span { display: block; } .live { background: var(--live); } .dropped { background: var(--dropped); }
.hidden { background: var(--hidden); }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .83rem; color: var(--soft); margin: 0 0 .3rem; }
.key i { display: inline-block; width: .7rem; height: .7rem; border-radius: .15rem; margin-right: .35rem; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  margin: .8rem 0; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
table.cards th, table.cards td { padding-left: .7rem; padding-right: .7rem; }
caption { text-align: left; padding: .7rem .9rem .1rem; color: var(--soft); font-size: .83rem; }
th, td { text-align: left; vertical-align: top; padding: .55rem .9rem; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 600; font-size: .8rem; vertical-align: bottom; }
tbody th { font-weight: 500; } .num { text-align: right; white-space: nowrap; }
tfoot th, tfoot td { font-weight: 650; }
.value { font-weight: 600; } .value, .nowrap { white-space: nowrap; }
.range { position: relative; display: block; width: 6.2rem; height: .5rem; margin: .3rem 0 .15rem;
  border-radius: .25rem;
  background: var(--track); }
.range b { position: absolute; top: 0; bottom: 0; background: var(--bar); opacity: .45; border-radius: .25rem;
  min-width: 2px; }
.range i { position: absolute; top: -.1rem; width: .22rem; height: .7rem; margin-left: -.11rem;
  background: var(--accent);
  border-radius: .1rem; }
.range u { position: absolute; top: -.15rem; bottom: -.15rem; left: 50%; border-left: 1px dotted var(--soft); }
.who { min-width: 12.5rem; } .held { min-width: 10.5rem; } .reading { min-width: 16rem; max-width: 24rem; }
.badge { display: inline-block; border-radius: 1rem; padding: .02rem .6rem; font-size: .78rem; font-weight: 650;
  margin-bottom: .25rem; white-space: nowrap; }
.good { color: var(--good); background: var(--good-bg); } .bad { color: var(--bad); background: var(--bad-bg); }
.reference { color: var(--accent); background: var(--track); }
.mixed { color: var(--mixed); background: var(--mixed-bg); }
.unknown { color: var(--unknown); background: var(--unknown-bg); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .9rem; margin: .8rem 0; }
figure { margin: 0; } figcaption { font-size: .83rem; margin-bottom: .3rem; }
svg { display: block; max-width: 100%; height: auto; }
details { margin: .7rem 0; } summary { cursor: pointer; color: var(--accent); font-size: .9rem; }
summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.advice { margin: .9rem 0; } .advice p { margin: .3rem 0; max-width: 60rem; }
.forest { list-style: none; margin: .7rem 0 0; padding: 0; }
.forest li { display: grid; grid-template-columns: minmax(9rem, 20rem) minmax(8rem, 1fr) 9rem; gap: 1rem;
  align-items: center; padding: .28rem 0; border-top: 1px solid var(--line); font-size: .9rem; }
.track { position: relative; display: block; height: .6rem; border-radius: .3rem; background: var(--track); }
.track b { position: absolute; top: 0; bottom: 0; background: var(--bar); opacity: .45; border-radius: .3rem;
  min-width: 2px; }
.track i { position: absolute; top: -.12rem; width: .26rem; height: .84rem; margin-left: -.13rem;
  background: var(--accent); border-radius: .13rem; }
.track u { position: absolute; top: -.45rem; bottom: -.45rem; border-left: 1px dotted var(--soft); }
.track s { position: absolute; top: -.3rem; bottom: -.3rem; border-left: 2px solid var(--dropped); }
.longer { border-left: 2px solid var(--dropped); padding-left: .3rem; }
.of-rule .track b, .of-reference .track b, .of-person .track b { background: var(--hidden); }
.of-rule .track i, .of-reference .track i, .of-person .track i { background: var(--soft); }
figure.card { margin: .9rem 0; } .charts figure.card { margin: 0; } .judge { min-width: 9rem; }
.overview { display: grid; grid-template-columns: 1fr 1fr; gap: .9rem; margin: 1.25rem 0 0; align-items: start; }
.overview h2 { margin: 0 0 .5rem; font-size: 1.15rem; } .overview h2 a { color: inherit; text-decoration: none; }
.overview ul { list-style: none; margin: 0; padding: 0; } .overview ul.notes { list-style: disc; padding-left: 1.1rem; }
.overview section > ul > li, .overview details > ul:not(.notes) > li { display: grid;
  grid-template-columns: 7.1rem 1fr; gap: .6rem; padding: .4rem 0; border-top: 1px solid var(--line); }
.overview section > ul > li:first-child { border-top: 0; }
.overview .wins { margin: .2rem 0; } .overview ul + h2 { margin-top: .9rem; padding-top: .7rem;
  border-top: 1px solid var(--line); }
.overview .badge { justify-self: start; align-self: start; margin-top: .15rem; }
a { color: var(--accent); } a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.contents { display: flex; flex-wrap: wrap; gap: .3rem 1.3rem; margin: 1.1rem 0 0; font-size: .9rem; }
.nothing { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 .8rem; margin-top: 1.3rem; }
.nothing h2 { font-size: 1rem; margin: 0; font-weight: 600; } .nothing p { margin: 0; font-size: .9rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .6rem; margin: .8rem 0; }
.facts > div { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .6rem .9rem; }
.facts dt { color: var(--soft); font-size: .83rem; } .facts dd { margin: 0; }
.card .facts > div { border: 0; padding: 0; } .card > h3 { margin-top: 0; }
.mid { font-size: 1.3rem; font-weight: 650; line-height: 1.3; } .fact-bad { color: var(--bad); }
.meter .track { height: .8rem; } .meter .track b { opacity: .8; border-radius: .3rem; }
.meter .is-good .track b { background: var(--live); } .meter .is-mixed .track b { background: var(--dropped); }
.meter .is-bad .track b { background: var(--bad); }
.meter .track u { top: -.25rem; bottom: -.25rem; border-left: 2px dotted var(--ink); }
.heat .scroll { width: fit-content; max-width: 100%; } .heat table { width: auto; } .heat td { padding: .2rem; }
.heat td span { display: block; text-align: center;
  min-width: 2.9rem; padding: .3rem .2rem; border-radius: .3rem; }
.heat thead th.num { text-align: center; } .heat tbody th { white-space: nowrap; }
.heat-none { color: var(--soft); } .heat-even-0 { background: var(--track); }
.heat-up-1 { background: color-mix(in srgb, var(--live) 22%, var(--track)); }
.heat-up-2 { background: color-mix(in srgb, var(--live) 38%, var(--track)); }
.heat-up-3 { background: color-mix(in srgb, var(--live) 54%, var(--card)); }
.heat-up-4 { background: color-mix(in srgb, var(--live) 68%, var(--card)); }
.heat-up-5 { background: color-mix(in srgb, var(--live) 80%, var(--card)); }
.heat-down-1 { background: color-mix(in srgb, var(--dropped) 22%, var(--track)); }
.heat-down-2 { background: color-mix(in srgb, var(--dropped) 38%, var(--track)); }
.heat-down-3 { background: color-mix(in srgb, var(--dropped) 54%, var(--card)); }
.heat-down-4 { background: color-mix(in srgb, var(--dropped) 68%, var(--card)); }
.heat-down-5 { background: color-mix(in srgb, var(--dropped) 80%, var(--card)); }
.example { margin: 1rem 0; } .example h3 { margin: 0 0 .5rem; }
.quote { background: var(--quote); border-radius: .45rem; padding: .6rem .8rem; white-space: pre-wrap;
  overflow-wrap: anywhere;
  unicode-bidi: isolate; max-height: 18rem; overflow-y: auto; font-size: .9rem; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; margin-top: .7rem; }
.sides h4, .example h4 { margin: 0 0 .3rem; font-size: .83rem; color: var(--soft); font-weight: 600; }
.says { max-width: none; margin: .6rem 0 0; font-size: .85rem; color: var(--soft); }
.empty { border: 1px dashed var(--line); border-radius: .6rem; padding: 1rem 1.2rem; margin: 1rem 0; }
.notes { font-size: .87rem; color: var(--soft); padding-left: 1.1rem; max-width: 52rem; }
footer { margin-top: 3rem; padding-bottom: 3rem; color: var(--soft); font-size: .87rem; }
@media (max-width: 60rem) { .overview { grid-template-columns: 1fr; } }
@media (max-width: 46rem) {
  .overview section > ul > li, .overview details > ul:not(.notes) > li { grid-template-columns: 1fr; gap: .15rem; }
  .forest li { grid-template-columns: 1fr auto; gap: .2rem .8rem; } .forest .track { grid-row: 2; grid-column: 1 / -1; }
  .forest .label { grid-row: 1; } .forest .track { margin: .2rem 0; }
  .sides { grid-template-columns: 1fr; } h1 { font-size: 1.55rem; }
  main, header, footer { padding-left: .9rem; padding-right: .9rem; }
  table.cards, .cards tbody, .cards tr, .cards th, .cards td { display: block; width: auto; }
  .cards thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .cards caption { display: block; }
  .cards tr { border-top: 1px solid var(--line); padding: .5rem 0; } .cards tr:first-child { border-top: 0; }
  .cards th, .cards td { border: 0; padding: .25rem .9rem; } .reading, .who, .held { min-width: 0; max-width: none; }
  .cards td[data-label] { display: grid; grid-template-columns: 9.5rem 1fr; gap: .5rem; }
  .cards td[data-label="reading"] { grid-template-columns: 1fr; gap: 0; }
  .cards td[data-label]::before { content: attr(data-label); color: var(--soft); font-size: .83rem; } }
@media print { .scroll, .quote { overflow: visible; max-height: none; } }
"""
